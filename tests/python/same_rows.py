"""Compares a project's local warehouse with its models, row by row, by readers that share no code with ours.

    python same_rows.py PROJECT

Prints a line per table; ends with 1 when a row is missing, left over or there twice. Which model a table holds stands in its
own log; what its columns are called there stands in the model's YAML.
"""

import re
import sys
from pathlib import Path

import deltalake
import polars


def renamed_columns(project: Path, model: str) -> dict[str, str]:
    """Column of the model by column of the table, out of the lines `event_at: TIMESTAMP` of its YAML."""
    (path,) = project.glob(f"dbt-like-models/**/{model}.yml")
    return {table: own for own, table in re.findall(r"^ +(\w+): ([A-Z][A-Z_]*)$", path.read_text(), re.MULTILINE)}


def rows(folder: Path, columns: dict[str, str]) -> polars.DataFrame:
    """All rows, columns renamed, in one order."""
    frame = polars.read_delta(str(folder)).select(polars.col(own).alias(name) for name, own in columns.items())
    return frame.sort(sorted(columns))


def main() -> int:
    project = Path(sys.argv[1])
    faults = compared = 0
    for log in sorted(project.glob("warehouse/**/_delta_log")):
        table = log.parent
        notes = [commit.get("tidemill", {}) for commit in deltalake.DeltaTable(str(table)).history()]
        path = next(note["table"] for note in notes if note.get("kind") == "publish")
        renamed = renamed_columns(project, Path(path).name)
        names = [field.name for field in deltalake.DeltaTable(str(table)).schema().fields]
        published = rows(table, {name: name for name in names})
        built = rows(project / "lake" / path, {name: renamed.get(name, name) for name in names})
        same = published.equals(built)
        print(f"{table.relative_to(project)}: {published.height} rows, {'equal' if same else 'NOT EQUAL'} to {path}")
        if not same:
            both = polars.concat([published, built])
            print(f"  one of them alone has: {both.filter(both.is_unique())}")
        faults += not same
        compared += 1
    return 0 if compared and not faults else 1


if __name__ == "__main__":
    sys.exit(main())
