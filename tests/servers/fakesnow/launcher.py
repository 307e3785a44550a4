"""Starts the Snowflake emulator (fakesnow 0.12.1) for tests, with the repairs that a transactional loader needs.

    python launcher.py PORT [HOST] [--until-stdin-closes]

Prints `ready` when it listens; ends on SIGTERM or SIGINT, and with the option also when its standard input closes, so that it
never outlives a test that was killed. All state is in memory: one process serves all tests, one fresh database per test. It
binds the loopback address unless told otherwise.

Why the stock server will not do
--------------------------------
1. A MERGE (or CREATE TEMPORARY TABLE) inside an explicit transaction fails with a bare HTTP 500: fakesnow notes an empty table
   comment in a second attached database, and DuckDB writes to one database per transaction. Repair: note real comments only.
2. COPY reads `PURGE = FALSE` and `FORCE = FALSE` as true. Repair: drop these two options when their value is FALSE.
3. COMMIT after a failed statement answers success although DuckDB has dropped the work. Repair: answer error 090999, and give
   DuckDB's own errors a code: 000625 for a conflict of transactions, 100000 for anything else.
"""

import os
import signal
import sys
import threading

import duckdb
import fakesnow
import fakesnow.copy_into as copy_into
import fakesnow.cursor as cursor
import fakesnow.transforms as transforms
import snowflake.connector.errors as errors
from sqlglot import exp


def note_real_comments_only():
    stock = transforms.extract_comment_on_table

    def extract_comment_on_table(expression):
        transformed = stock(expression)
        comment = transformed.args.get("table_comment")
        if comment and comment[1] is None:
            transformed.args.pop("table_comment")
        return transformed

    transforms.extract_comment_on_table = extract_comment_on_table


def read_false_as_false():
    stock = copy_into._params

    def is_off(param):
        value = param.args.get("expression")
        return param.this.name.upper() in ("PURGE", "FORCE") and value is not None and value.sql().upper() == "FALSE"

    def params(expression, *args, **kwargs):
        given = expression.args.get("params") or []
        expression.set("params", [param for param in given if not is_off(param)])
        return stock(expression, *args, **kwargs)

    copy_into._params = params


def tell_failed_transactions():
    stock = cursor.FakeSnowflakeCursor._execute

    def execute(self, transformed, params=None):
        connection = self._conn
        if isinstance(transformed, exp.Commit) and getattr(connection, "_tidemill_failed", False):
            connection._tidemill_failed = connection._tidemill_open = False
            self._duck_conn.execute("ROLLBACK")
            raise errors.ProgrammingError(
                msg="COMMIT after a failed statement: rolled back (emulator)", errno=90999, sqlstate="25000"
            )
        try:
            result = stock(self, transformed, params)
        except Exception as error:
            connection._tidemill_failed = getattr(connection, "_tidemill_open", False)
            if isinstance(error, duckdb.TransactionException):
                raise errors.ProgrammingError(msg=str(error), errno=625, sqlstate="57014") from error
            if isinstance(error, duckdb.Error):
                raise errors.ProgrammingError(msg=str(error), errno=100000, sqlstate="XX000") from error
            raise
        if isinstance(transformed, exp.Transaction):
            connection._tidemill_open = True
        elif isinstance(transformed, (exp.Commit, exp.Rollback)):
            connection._tidemill_open = connection._tidemill_failed = False
        return result

    cursor.FakeSnowflakeCursor._execute = execute


def main():
    places = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    port, host = int(places[0]), places[1] if len(places) > 1 else "127.0.0.1"
    note_real_comments_only()
    read_false_as_false()
    tell_failed_transactions()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if "--until-stdin-closes" in sys.argv:
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    with fakesnow.server(port=port, host=host):
        print("ready", flush=True)
        # Whoever waited for that word may close the pipe now; logs go to standard error from here on.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        stop.wait()


if __name__ == "__main__":
    main()
