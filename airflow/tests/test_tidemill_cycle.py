"""The DAG in real Airflow: read by its DAG bag, run with a stand-in for the binary and with the binary itself."""

import ast
import json
import os
import stat
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

DAGS = Path(__file__).parents[1] / "dags"
LOGICAL_DATE = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)

STAND_IN = """#!/usr/bin/env python3
import json, sys
from pathlib import Path
folder = Path(__file__).parent
calls = folder / "calls"
calls.open("a").write(json.dumps(sys.argv[1:]) + "\\n")
verb = next(word for word in sys.argv[1:] if not word.startswith("-"))
codes = json.loads((folder / "codes").read_text())
done = sum(verb in json.loads(line) for line in calls.read_text().splitlines())
sys.exit(codes[verb][min(done, len(codes[verb])) - 1])
"""


@pytest.fixture(scope="session")
def bag() -> DagBag:
    return DagBag(dag_folder=str(DAGS))


@pytest.fixture
def dag(bag: DagBag) -> DAG:
    dag = bag.dags["tidemill_cycle"]
    for task in dag.tasks:
        # Waiting is Airflow's business; which failures are tried again is ours.
        task.retry_delay = timedelta(0)
        task.retry_exponential_backoff = 0
    return dag


class StandIn:
    """A program in place of the binary: notes its arguments and ends with the codes that it was given, verb by verb."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.program = folder / "tidemill"
        self.program.write_text(STAND_IN)
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("AIRFLOW_VAR_TIDEMILL_BIN", str(self.program))

    def ends_with(self, **codes: list[int]) -> None:
        every = {"ingest": [0], "build": [0], "publish": [0]} | codes
        (self.folder / "codes").write_text(json.dumps(every))

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    def verbs(self) -> list[str]:
        return [next(word for word in call if not word.startswith("-")) for call in self.calls()]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(tmp_path, monkeypatch)


def run(dag: DAG, minute: int) -> str:
    """Runs the DAG once, as a run of its own; returns the run's state."""
    return dag.test(logical_date=LOGICAL_DATE + timedelta(minutes=minute)).state


def test_every_file_of_the_folder_is_read_without_an_error(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {"tidemill_cycle"}


def test_the_dag_is_ingest_then_build_then_publish(bag: DagBag) -> None:
    dag = bag.dags["tidemill_cycle"]
    order = {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
    assert order == {"ingest": ["build"], "build": ["publish"], "publish": []}
    assert dag.max_active_runs == 1
    assert not dag.catchup
    assert all(task.retries > 0 for task in dag.tasks)


@pytest.mark.parametrize("file", sorted(DAGS.glob("*.py")), ids=lambda file: file.name)
def test_a_dag_is_short_and_does_nothing_at_import(file: Path) -> None:
    source = file.read_text()
    assert len(source.splitlines()) < 60
    # What runs on each parse is definitions and one `with DAG(...)`; no query, no file, no Variable.
    at_import = [node for node in ast.parse(source).body if isinstance(node, ast.Expr | ast.With | ast.For | ast.If)]
    docstring, with_dag = at_import
    assert isinstance(docstring.value, ast.Constant)
    assert isinstance(with_dag, ast.With)
    assert "Variable" not in source.replace("Airflow Variables", "")


def test_a_cycle_passes_run_id_and_data_interval_to_each_verb(dag: DAG, stand_in: StandIn) -> None:
    stand_in.ends_with()
    assert run(dag, 0) == "success"
    assert stand_in.verbs() == ["ingest", "build", "publish"]
    for call in stand_in.calls():
        assert [word for word in call if word.startswith("--run-id=manual__")]
        assert "--as-of=2026-03-01T12:05:00+00:00" in call
        assert not [word for word in call if word == "" or word.startswith(("--project-dir", "--target"))]


def test_variables_name_project_and_target(dag: DAG, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.ends_with()
    monkeypatch.setenv("AIRFLOW_VAR_TIDEMILL_PROJECT_DIR", "/srv/project")
    monkeypatch.setenv("AIRFLOW_VAR_TIDEMILL_TARGET", "prod")
    assert run(dag, 5) == "success"
    assert all({"--project-dir=/srv/project", "--target=prod"} <= set(call) for call in stand_in.calls())


def test_a_run_without_data_interval_passes_none(dag: DAG, stand_in: StandIn) -> None:
    stand_in.ends_with()
    assert dag.test(logical_date=None).state == "success"
    assert stand_in.verbs() == ["ingest", "build", "publish"]
    assert not [word for call in stand_in.calls() for word in call if word.startswith("--as-of")]


def test_code_75_is_tried_again(dag: DAG, stand_in: StandIn) -> None:
    stand_in.ends_with(ingest=[75, 75, 0])
    assert run(dag, 10) == "success"
    assert stand_in.verbs() == ["ingest", "ingest", "ingest", "build", "publish"]


def test_75_forever_fails_after_the_last_retry_and_stops_the_cycle(dag: DAG, stand_in: StandIn) -> None:
    stand_in.ends_with(build=[75])
    assert run(dag, 40) == "failed"
    assert stand_in.verbs() == ["ingest"] + ["build"] * (1 + dag.get_task("build").retries)


def test_a_repeated_run_keeps_its_run_id(dag: DAG, stand_in: StandIn) -> None:
    # Tries of one task are one run in the lake's commits.
    stand_in.ends_with(ingest=[75, 0])
    assert run(dag, 45) == "success"
    ids = {word for call in stand_in.calls() for word in call if word.startswith("--run-id=")}
    assert len(ids) == 1


def test_a_task_that_is_stopped_stops_its_process(dag: DAG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, stopped = tmp_path / "started", tmp_path / "stopped"
    script = tmp_path / "tidemill"
    script.write_text(f"#!/bin/sh\ntrap 'touch {stopped}; exit 0' TERM\ntouch {started}\nwhile :; do sleep 0.1; done\n")
    script.chmod(0o755)
    task = dag.get_task("ingest")
    monkeypatch.setattr(task, "command", [str(script), "ingest"])
    working = threading.Thread(target=task.execute, args=({},), daemon=True)
    working.start()
    while not started.exists():
        assert working.is_alive()
        time.sleep(0.02)
    task.on_kill()
    working.join(timeout=30)
    assert not working.is_alive()
    assert stopped.exists()


@pytest.mark.parametrize("code", [1, 2, 3, 137])
def test_other_codes_fail_without_a_retry_and_stop_the_cycle(dag: DAG, stand_in: StandIn, code: int) -> None:
    stand_in.ends_with(build=[code, 0])
    assert run(dag, 100 + code) == "failed"
    assert stand_in.verbs() == ["ingest", "build"]


SOURCES = """
sources:
  - name: shop
    tables:
      - name: orders
        config:
          meta:
            tidemill: {topic: TOPIC, event_time: {column: created_at, unit: s}, idempotency_key: order_id}
        columns:
          - {name: order_id, data_type: text}
          - {name: created_at, data_type: timestamp}
          - {name: amount, data_type: bigint}
"""

MODEL = """
models:
  - name: orders
    config:
      materialized: table
      meta:
        tidemill:
          publish:
            - {to: snowflake, table: SHOP_DB.PROCESSED_DATA.ORDERS, unique_key: [order_id], strategy: merge}
    columns:
      - {name: order_id, data_tests: [unique]}
"""


def kafka_tool(main_class: str, *arguments: str, stdin: str = "") -> None:
    install = Path(__file__).parents[2] / "tests" / "servers" / "install"
    kafka = subprocess.run([install, "path", "kafka"], capture_output=True, text=True, check=True).stdout.strip()
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{kafka}/libs/*", main_class, *arguments]
    subprocess.run(command, input=stdin, text=True, check=True, capture_output=True)


def from_environment(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        pytest.fail(f"{name} is not set; tests/run sets it")
    return value


def test_airflow_dags_test_runs_a_cycle_with_the_binary_on_kafka(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = from_environment("TIDEMILL_BIN")
    bootstrap = from_environment("TIDEMILL_TEST_KAFKA")
    topic = f"orders-{uuid.uuid4().hex}"
    server = ("--bootstrap-server", bootstrap, "--topic", topic)
    kafka_tool("org.apache.kafka.tools.TopicCommand", *server, "--create", "--partitions", "2")
    orders = [{"order_id": str(number % 90), "created_at": 1741392000, "amount": 1} for number in range(100)]
    lines = "".join(json.dumps(order) + "\n" for order in orders)
    kafka_tool("org.apache.kafka.tools.ConsoleProducer", *server, stdin=lines)

    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "_shop__sources.yml").write_text(SOURCES.replace("TOPIC", topic))
    (tmp_path / "models" / "orders.sql").write_text("select order_id, amount from {{ source('shop', 'orders') }}\n")
    (tmp_path / "models" / "orders.yml").write_text(MODEL)
    (tmp_path / "dbt_project.yml").write_text('name: shop\nversion: "1.0.0"\nconfig-version: 2\n')
    settings = f'[target.prod.kafka]\n"bootstrap.servers" = "{bootstrap}"\n[target.prod.lake]\nurl = "lake"\n'
    (tmp_path / "tidemill.toml").write_text(settings)

    monkeypatch.setenv("AIRFLOW_VAR_TIDEMILL_BIN", binary)
    monkeypatch.setenv("AIRFLOW_VAR_TIDEMILL_PROJECT_DIR", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_VAR_TIDEMILL_TARGET", "prod")
    now = datetime.now(UTC).isoformat()
    command = [sys.executable, "-m", "airflow", "dags", "test", "tidemill_cycle", now]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr

    query = "select count(*) as orders, sum(amount) as amount from orders"
    command = [binary, "--project-dir", str(tmp_path), "--format", "csv", "sql", query]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "orders,amount\n90,90\n"
    assert list(tmp_path.glob("**/warehouse/**/_delta_log"))
