"""Compares marts of Tidemill with those of dbt-duckdb, row by row: rows that one side has and the other has not.

    compare.py DATABASE MART=FOLDER…

FOLDER holds the live Parquet files of Tidemill's mart. Prints `mart rows` for each; ends with 1 when any differ.
"""

import sys

import duckdb

# What both sides have: `is_final` depends on watermarks, which dbt-duckdb has not.
COLUMNS = {
    "clicks_actions_hourly": ["hour_start", "action", "events", "users", "late_events"],
    "clicks_per_minute": ["user_id", "window_start", "window_end", "clicks", "late_clicks"],
    "potential_bots": ["user_id", "window_start", "window_end", "clicks", "threshold", "late_clicks"],
    "transactions_hourly": ["hour_start", "kind", "status", "currency", "transactions", "amount"],
}
INSTANTS = {"hour_start", "window_start", "window_end"}
WIDE = {"clicks", "late_clicks", "threshold"}


def columns_of(mart: str) -> str:
    def shown(column: str) -> str:
        if column in INSTANTS:
            return f"epoch_us({column})"
        if column in WIDE:
            return f"cast({column} as bigint)"
        if column == "amount":
            return f"cast({column} as decimal(38, 4))"
        return column

    return ", ".join(shown(column) for column in COLUMNS[mart])


def main() -> int:
    database, *marts = sys.argv[1:]
    connection = duckdb.connect(database, read_only=True)
    connection.execute("set TimeZone = 'UTC'")
    differs = 0
    for pair in marts:
        mart, folder = pair.split("=", 1)
        own = f"select {columns_of(mart)} from read_parquet('{folder}/*.parquet', hive_partitioning = false)"
        peer = f"select {columns_of(mart)} from {mart}"
        rows = connection.execute(f"select count(*) from ({own})").fetchone()[0]
        for here, there, name in [(own, peer, "dbt-duckdb"), (peer, own, "Tidemill")]:
            lost = connection.execute(f"({here}) except all ({there}) limit 3").fetchall()
            if lost:
                print(f"{mart}: not in {name}: {lost}", file=sys.stderr)
                differs = 1
        print(mart, rows)
    return differs


if __name__ == "__main__":
    sys.exit(main())
