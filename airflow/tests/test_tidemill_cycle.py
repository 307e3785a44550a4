"""The DAG in real Airflow: read by its DAG bag, run with a stand-in for the binary and with the binary itself."""

import ast
import json
import os
import stat
import subprocess
import sys
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


@pytest.mark.parametrize("code", [1, 2, 3])
def test_other_codes_fail_without_a_retry_and_stop_the_cycle(dag: DAG, stand_in: StandIn, code: int) -> None:
    stand_in.ends_with(build=[code, 0])
    assert run(dag, 15 + 5 * code) == "failed"
    assert stand_in.verbs() == ["ingest", "build"]


def test_airflow_dags_test_runs_a_cycle_with_the_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped project on a lake in a folder; it needs no server for that."""
    binary = os.environ.get("TIDEMILL_BIN")
    if binary is None:
        pytest.fail("TIDEMILL_BIN is not set; tests/run sets it")
    project = tmp_path / "project"
    project.mkdir()
    (project / "dbt-like-models").symlink_to(Path(__file__).parents[2] / "dbt-like-models")
    (project / "tidemill.toml").write_text('[target.local.lake]\nurl = "lake"\n')
    monkeypatch.setenv("AIRFLOW_VAR_TIDEMILL_BIN", binary)
    monkeypatch.setenv("AIRFLOW_VAR_TIDEMILL_PROJECT_DIR", str(project))
    command = [sys.executable, "-m", "airflow", "dags", "test", "tidemill_cycle", "2026-03-01T13:05:00+00:00"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "state=success" in finished.stdout + finished.stderr
    # Models are stored even when they have no rows yet.
    assert list((project / "lake").glob("**/_delta_log/*.json"))
