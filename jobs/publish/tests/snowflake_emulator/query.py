"""Asks the emulator through Snowflake's own client: a witness that shares no code with what is tested.

    python query.py URL

Reads one JSON object a line, `{"database": …, "sql": …}`, and answers one JSON line: `{"rows": […]}` or `{"error": …}`. Values
that JSON does not know are printed as text. Ends when its standard input closes.
"""

import json
import sys
from urllib.parse import urlparse

import snowflake.connector

place = urlparse(sys.argv[1])
connections = {}


def ask(database, sql):
    if database not in connections:
        connections[database] = snowflake.connector.connect(
            user="WITNESS", password="x", account="TMORG-TMTEST", host=place.hostname, port=place.port,
            protocol=place.scheme, database=database, schema="PUBLIC", network_timeout=5,
        )
    return connections[database].cursor().execute(sql).fetchall()


for line in sys.stdin:
    question = json.loads(line)
    try:
        answer = {"rows": ask(question["database"], question["sql"])}
    except Exception as error:
        answer = {"error": str(error)}
    print(json.dumps(answer, default=str), flush=True)
