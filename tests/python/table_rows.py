"""Prints all tables of a warehouse with types and rows, in one form for the local warehouse and for Snowflake.

    python table_rows.py local FOLDER               one database's folder; needs deltalake
    python table_rows.py snowflake PORT DATABASE    on loopback; needs Snowflake's own connector

A JSON object: `SCHEMA.TABLE` -> `columns`, a list of name and type (Snowflake's names of types), and `rows`, lists of texts or nulls
in the order of the columns. Decimals have all digits of their scale, times microseconds and UTC, doubles the shortest text that
reads back as the same; documents (VARIANT) are JSON as they were stored.
"""

import datetime
import decimal
import json
import sys
from pathlib import Path

# Of the loader itself: heads, ledgers, staging.
OWN_SCHEMAS = ("OPS", "STAGE", "PUBLIC", "INFORMATION_SCHEMA")
LOCAL_TYPES = {
    "string": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP_NTZ",
    "timestamp_ntz": "TIMESTAMP_NTZ",
    "binary": "BINARY",
    "float": "FLOAT",
    "double": "FLOAT",
    **dict.fromkeys(("byte", "short", "integer", "long"), "NUMBER(38,0)"),
}


def text(value: object, data_type: str) -> str | None:
    """A value of a column of that type as a text that no other value has."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | decimal.Decimal) and data_type.startswith("NUMBER"):
        scale = int(data_type.rstrip(")").split(",")[1])
        # Quantizing must not change it: a digit too many would be a fault of the loader.
        exact = decimal.Context(prec=80, traps=[decimal.Inexact, decimal.InvalidOperation])
        return format(decimal.Decimal(value).quantize(decimal.Decimal(1).scaleb(-scale), context=exact), "f")
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime.datetime):
        utc = value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value
        return utc.isoformat(timespec="microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str):
        return value
    raise TypeError(f"{value!r} is no {data_type}")


def local(folder: Path) -> dict[str, dict]:
    import deltalake

    tables = {}
    for log in sorted(folder.glob("*/*/_delta_log")):
        table = deltalake.DeltaTable(str(log.parent))
        # The partition column is the local warehouse's own.
        names = {field.name: field.type.type for field in table.schema().fields if field.name != "_batch"}
        types = {
            name: LOCAL_TYPES.get(kind, kind.replace("decimal", "NUMBER").replace(" ", ""))
            for name, kind in names.items()
        }
        rows = table.to_pyarrow_table(columns=list(names)).to_pylist()
        tables[f"{log.parent.parent.name}.{log.parent.name}"] = {
            "columns": [[name.upper(), kind] for name, kind in types.items()],
            "rows": [[text(row[name], kind) for name, kind in types.items()] for row in rows],
        }
    return tables


def snowflake(port: int, database: str) -> dict[str, dict]:
    import snowflake.connector

    connection = snowflake.connector.connect(
        user="TESTER",
        password="none",
        account="TMORG-TMTEST",
        host="127.0.0.1",
        port=port,
        protocol="http",
        database=database,
        schema="PUBLIC",
    )
    found: dict[str, list] = {}
    with connection, connection.cursor() as cursor:
        columns = cursor.execute(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, NUMERIC_PRECISION, NUMERIC_SCALE "
            f"FROM {database}.INFORMATION_SCHEMA.COLUMNS ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
        ).fetchall()
        for schema, table, column, kind, precision, scale in columns:
            # The number of the publication that wrote the row is the loader's own.
            if schema.upper() in OWN_SCHEMAS or column == "_TIDEMILL_SEQ":
                continue
            kind = {"NUMBER": f"NUMBER({precision},{scale})", "TEXT": "VARCHAR"}.get(kind, kind)
            found.setdefault(f"{schema}.{table}", []).append([column, kind])
        tables = {}
        for table, columns in found.items():
            # The emulator hands a time that is null out as 1970: whether a value is there is asked beside it.
            listed = ", ".join(f'"{name}", "{name}" IS NULL' for name, _ in columns)
            rows = cursor.execute(f"SELECT {listed} FROM {database}.{table}").fetchall()
            tables[table] = {
                "columns": columns,
                "rows": [
                    [
                        None if is_null else text(value, kind)
                        for value, is_null, (_, kind) in zip(row[::2], row[1::2], columns, strict=True)
                    ]
                    for row in rows
                ],
            }
    return tables


def main() -> None:
    kind, *place = sys.argv[1:]
    tables = local(Path(place[0])) if kind == "local" else snowflake(int(place[0]), place[1])
    print(json.dumps(tables))


if __name__ == "__main__":
    main()
