"""Starts the Snowflake emulator (fakesnow 0.12.1) for tests, with the repairs that a transactional loader needs.

    python launcher.py PORT [HOST]

Prints `ready` when it listens; ends on SIGTERM or SIGINT. All state is in memory: one process serves all tests, one fresh
database per test. It binds the loopback address unless told otherwise.

Why the stock server will not do
--------------------------------
1. A MERGE (or CREATE TEMPORARY TABLE) inside an explicit transaction fails with a bare HTTP 500: fakesnow notes an empty table
   comment in a second attached database, and DuckDB writes to one database per transaction. Repair: note real comments only.
2. COPY reads `PURGE = FALSE` and `FORCE = FALSE` as true. Repair: drop these two options when their value is FALSE.
3. COMMIT after a failed statement answers success although DuckDB has dropped the work. Repair: answer error 090999, and give
   DuckDB's own errors a code: 000625 for a conflict of transactions, 100000 for anything else.
"""

