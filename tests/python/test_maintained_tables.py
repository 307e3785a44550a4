"""Tables that were cared for, and a model that changed its columns, as delta-rs for Python and Polars read them."""

import json
import os
import subprocess
from pathlib import Path

import deltalake
import polars
import pytest

SETTINGS = """\
name = "care"
[target.local.lake]
url = "lake"
[target.local.warehouse]
type = "local"
path = "warehouse"
[maintenance]
checkpoint_interval = 5
compact_min_files = 4
retention = "1ms"
"""
PROJECT = "name: care\nversion: '1.0.0'\nconfig-version: 2\nmodel-paths: [models]\n"
SOURCES = """\
sources:
  - name: shop
    tables:
      - name: orders
        config: {meta: {tidemill: {topic: orders, event_time: {column: at, unit: s}, idempotency_key: id}}}
        columns:
          - {name: id, data_type: text}
          - {name: at, data_type: timestamp}
          - {name: amount, data_type: 'numeric(20, 2)'}
"""
MODEL = "{{ config(materialized='table') }} select id, COLUMNS from {{ source('shop', 'orders') }}\n"
ROUNDS = 12
ROWS = 25


class Project:
    """A project folder and the binary that works on it."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.binary = binary
        self.folder = folder
        self.raw = folder / "lake" / "raw" / "shop" / "orders"
        self.model = folder / "lake" / "models" / "main" / "orders"
        (folder / "models").mkdir(parents=True)
        (folder / "tidemill.toml").write_text(SETTINGS)
        (folder / "dbt_project.yml").write_text(PROJECT)
        (folder / "models" / "_sources.yml").write_text(SOURCES)
        self.write_model("amount")

    def write_model(self, columns: str) -> None:
        (self.folder / "models" / "orders.sql").write_text(MODEL.replace("COLUMNS", columns))

    def run(self, *arguments: str) -> None:
        command = [self.binary, "--project-dir", str(self.folder), *arguments]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr

    def land(self, number: int) -> None:
        first = number * ROWS
        lines = [
            json.dumps({"id": f"k{row}", "at": 1_741_478_400 + row, "amount": row / 4})
            for row in range(first, first + ROWS)
        ]
        path = self.folder / f"orders-{number}.jsonl"
        path.write_text("\n".join(lines))
        self.run("ingest", "--from-files", str(path))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    binary = os.environ.get("TIDEMILL_BIN")
    if binary is None:
        pytest.fail("TIDEMILL_BIN is not set; tests/run sets it")
    return Project(binary, tmp_path / "project")


def log_entries(table: Path) -> list[str]:
    return sorted(path.name for path in (table / "_delta_log").glob("*.json"))


def test_compaction_log_clean_up_and_vacuum_leave_every_row_to_every_reader(project: Project) -> None:
    seen = []
    for number in range(ROUNDS):
        project.land(number)
        # A reader that opened its table before care is taken goes on reading what it saw.
        opened = deltalake.DeltaTable(str(project.raw))
        seen.append(opened.to_pyarrow_table().num_rows)
        if number % 4 == 3:
            project.run("maintain")
    assert seen == [ROWS * (number + 1) for number in range(ROUNDS)]
    project.run("maintain")
    rows = ROWS * ROUNDS
    table = deltalake.DeltaTable(str(project.raw))
    frame = polars.read_delta(str(project.raw))
    assert (table.to_pyarrow_table().num_rows, frame.height, frame["_key"].n_unique()) == (rows, rows, rows)
    assert len(table.file_uris()) < ROUNDS, "nothing was compacted"
    live = {Path(uri.removeprefix("file://")).name for uri in table.file_uris()}
    assert {path.name for path in project.raw.rglob("*.parquet") if "_delta_log" not in path.parts} == live
    entries = log_entries(project.raw)
    assert "00000000000000000000.json" not in entries, "the log was not cleaned up"
    assert any((project.raw / "_delta_log").glob("*.checkpoint.parquet"))
    # The table is still one that can be written to and proven.
    project.land(ROUNDS)
    project.run("reconcile", "--deep")
    assert polars.read_delta(str(project.raw)).height == rows + ROWS


def test_a_model_that_changes_its_columns_is_one_table_to_every_reader(project: Project) -> None:
    project.land(0)
    project.run("build")
    before = deltalake.DeltaTable(str(project.model))
    assert polars.read_delta(str(project.model)).columns == ["id", "amount"]
    project.write_model("cast(amount as text) as price, at")
    project.run("build")
    after = deltalake.DeltaTable(str(project.model))
    assert after.metadata().id == before.metadata().id
    assert after.version() == before.version() + 1
    frame = polars.read_delta(str(project.model))
    assert frame.columns == ["id", "price", "at"]
    assert frame.height == ROWS
    assert frame["price"].dtype == polars.String
    old = deltalake.DeltaTable(str(project.model), version=before.version())
    assert old.to_pyarrow_table().column_names == ["id", "amount"]
    # Checkpoints carry the new columns as well.
    for number in range(1, 7):
        project.land(number)
        project.run("build")
    project.run("maintain")
    assert polars.read_delta(str(project.model)).height == ROWS * 7
