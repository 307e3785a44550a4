"""Starts the Snowflake emulator (fakesnow 0.12.1) for tests, with the repairs that a transactional loader needs.

    python launcher.py PORT [HOST] [--until-stdin-closes] [--one-session-per-database]

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
4. A MERGE in a session without a current schema fails with a bare AssertionError: fakesnow makes a temporary table of its own
   and looks for its schema. Repair: give such a table DuckDB's default schema.
5. The transaction of a client that was killed stays open for ever, while the service ends it after some minutes. Repair, with
   `--one-session-per-database`: a login ends what other sessions of its database have left open.
6. In the service a statement outside a transaction is whole: of two that create one thing the second finds it, and a MERGE locks
   its table. DuckDB runs both at once, and refuses one or keeps the rows of both. Repair: one such statement at a time.
"""

import contextlib
import os
import signal
import sys
import threading

import duckdb
import fakesnow
import fakesnow.copy_into as copy_into
import fakesnow.fakes as fakes
import fakesnow.instance as instance
import fakesnow.transforms as transforms
import snowflake.connector.errors as errors
from fakesnow.cursor import FakeSnowflakeCursor as Cursor
from sqlglot import exp


def note_real_comments_only() -> None:
    stock = transforms.extract_comment_on_table

    def extract_comment_on_table(expression: exp.Expression) -> exp.Expression:
        transformed = stock(expression)
        comment = transformed.args.get("table_comment")
        if comment and comment[1] is None:
            transformed.args.pop("table_comment")
        return transformed

    transforms.extract_comment_on_table = extract_comment_on_table


def read_false_as_false() -> None:
    stock = copy_into._params

    def is_off(param: exp.Expression) -> bool:
        value = param.args.get("expression")
        return param.this.name.upper() in ("PURGE", "FORCE") and value is not None and value.sql().upper() == "FALSE"

    def params(expression: exp.Expression, *args: object, **kwargs: object) -> object:
        given = expression.args.get("params") or []
        expression.set("params", [param for param in given if not is_off(param)])
        return stock(expression, *args, **kwargs)

    copy_into._params = params


def tell_failed_transactions() -> None:
    stock = Cursor._execute

    def execute(self: Cursor, transformed: exp.Expression, params: object = None) -> object:
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

    Cursor._execute = execute


def write_one_at_a_time() -> None:
    stock = Cursor.execute
    turn = threading.RLock()

    def execute(self: Cursor, command: str, *args: object, **kwargs: object) -> Cursor:
        verb = command.lstrip().split(None, 1)[0].upper() if command.strip() else ""
        is_alone = not getattr(self._conn, "_tidemill_open", False)
        if is_alone and verb in ("CREATE", "ALTER", "DROP", "MERGE"):
            with turn:
                return stock(self, command, *args, **kwargs)
        return stock(self, command, *args, **kwargs)

    Cursor.execute = execute


def keep_inner_tables_in_the_default_schema() -> None:
    stock = Cursor._execute

    def execute(self: Cursor, transformed: exp.Expression, params: object = None) -> object:
        connection = self._conn
        # Statements of users that name no schema were refused before they got here.
        table = transformed.find(exp.Table) if isinstance(transformed, exp.Create) else None
        if connection.schema or table is None or table.db or transformed.kind != "TABLE":
            return stock(self, transformed, params)
        connection._schema = "MAIN"
        try:
            return stock(self, transformed, params)
        finally:
            connection._schema = None

    Cursor._execute = execute


def end_transactions_at_login() -> None:
    stock = instance.FakeSnow.connect
    known = {}

    def connect(
        self: instance.FakeSnow, database: str | None = None, *args: object, **kwargs: object
    ) -> fakes.FakeSnowflakeConnection:
        for connection in known.pop(database, []):
            # Outside a transaction, or closed, there is nothing to end.
            with contextlib.suppress(duckdb.Error):
                connection._duck_conn.execute("ROLLBACK")
            connection._tidemill_open = connection._tidemill_failed = False
        connection = stock(self, database, *args, **kwargs)
        known.setdefault(database, []).append(connection)
        return connection

    instance.FakeSnow.connect = connect


def main() -> None:
    places = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    port, host = int(places[0]), places[1] if len(places) > 1 else "127.0.0.1"
    note_real_comments_only()
    read_false_as_false()
    tell_failed_transactions()
    keep_inner_tables_in_the_default_schema()
    write_one_at_a_time()
    if "--one-session-per-database" in sys.argv:
        end_transactions_at_login()
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
