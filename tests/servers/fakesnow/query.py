"""Runs statements in one session of the emulator and prints the last one's rows as JSON.

usage: python query.py PORT DATABASE STATEMENT...
"""

import json
import sys

import snowflake.connector


def main() -> None:
    port, database, *statements = sys.argv[1:]
    connection = snowflake.connector.connect(
        user="TESTER",
        password="none",
        account="TMORG-TMTEST",
        host="127.0.0.1",
        port=int(port),
        protocol="http",
        database=database,
        schema="PUBLIC",
    )
    with connection, connection.cursor(snowflake.connector.DictCursor) as cursor:
        rows: list[dict] = []
        for statement in statements:
            rows = cursor.execute(statement).fetchall()
    print(json.dumps(rows, default=str))


if __name__ == "__main__":
    main()
