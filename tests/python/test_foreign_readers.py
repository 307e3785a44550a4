"""The lake as others see it: delta-rs for Python and Polars read what `tidemill demo` left behind."""

import json
import subprocess
from pathlib import Path

import deltalake
import polars
import pytest

EVENTS = 3_000


@pytest.fixture(scope="session")
def demo(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run([binary, "demo", "--keep", folder, "--events", str(EVENTS)], check=True, capture_output=True)
    return folder


def tables(folder: Path, layer: str) -> list[Path]:
    """Folders of Delta tables under `<lake>/<layer>`."""
    return sorted(log.parent for log in folder.glob(f"**/{layer}/**/_delta_log"))


def books(table: deltalake.DeltaTable) -> list[dict]:
    """The books of all ingest commits, out of the transaction log."""
    notes = [commit.get("tidemill", {}) for commit in table.history()]
    return [part for note in notes if note.get("kind") == "ingest" for part in note.get("partitions", [])]


def test_raw_tables_hold_the_rows_that_their_commits_counted(demo: Path) -> None:
    raw = tables(demo, "raw")
    assert raw
    for path in raw:
        table = deltalake.DeltaTable(str(path))
        frame = polars.read_delta(str(path))
        rows = table.to_pyarrow_table().num_rows
        assert rows > 0
        assert frame.height == rows
        assert frame["_key"].n_unique() == rows
        partitions = books(table)
        assert sum(part["landed"] for part in partitions) == rows
        for part in partitions:
            outcomes = ("landed", "duplicates", "quarantined", "tombstones", "skipped")
            assert part["to"] - part["from"] == sum(part[name] for name in outcomes)


def test_raw_tables_have_the_types_of_their_contract(demo: Path) -> None:
    for path in tables(demo, "raw"):
        schema = polars.scan_delta(str(path)).collect_schema()
        assert schema["_key"] == polars.String
        assert schema["_offset"] == polars.Int64
        assert schema["event_at"] == polars.Datetime("us", "UTC")
        assert schema["event_date"] == polars.Date


def test_partitions_are_pruned_by_event_date(demo: Path) -> None:
    for path in tables(demo, "raw"):
        table = deltalake.DeltaTable(str(path))
        assert "event_date" in table.metadata().partition_columns
        dates = polars.read_delta(str(path))["event_date"]
        day = dates.min()
        pruned = table.to_pyarrow_table(partitions=[("event_date", "=", day.isoformat())])
        assert pruned.num_rows == (dates == day).sum()


def test_quarantine_is_readable(demo: Path) -> None:
    (path,) = [path for path in tables(demo, "ops") if path.name == "quarantine"]
    frame = polars.read_delta(str(path))
    raw = [deltalake.DeltaTable(str(table)) for table in tables(demo, "raw")]
    assert frame.height == sum(part["quarantined"] for table in raw for part in books(table))


def test_models_and_warehouse_are_readable_by_both(demo: Path) -> None:
    stored = tables(demo, "models") + tables(demo, "warehouse")
    assert stored
    for path in stored:
        table = deltalake.DeltaTable(str(path))
        assert polars.read_delta(str(path)).height == table.to_pyarrow_table().num_rows


def test_reconcile_agrees_with_what_others_read(binary: str, demo: Path) -> None:
    command = [binary, "--project-dir", demo, "--format", "json", "reconcile", "--deep"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("\n") <= 1 or json.loads(finished.stdout)
    landed = sum(part["landed"] for part in reconciled_partitions(json.loads(finished.stdout)))
    assert landed == sum(polars.read_delta(str(path)).height for path in tables(demo, "raw"))


def reconciled_partitions(value: object) -> list[dict]:
    """All objects with a `landed` beside a `partition`, however deep they lie."""
    if isinstance(value, list):
        return [part for item in value for part in reconciled_partitions(item)]
    if isinstance(value, dict):
        if "landed" in value and "partition" in value:
            return [value]
        return [part for item in value.values() for part in reconciled_partitions(item)]
    return []
