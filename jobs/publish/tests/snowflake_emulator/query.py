"""Asks the emulator through Snowflake's own client: a witness that shares no code with what is tested.

    python query.py URL DATABASE SQL...

Prints one JSON array of rows per statement. Values that JSON does not know are printed as text.
"""

import json
import sys
from urllib.parse import urlparse

import snowflake.connector

url, database, *statements = sys.argv[1:]
place = urlparse(url)
connection = snowflake.connector.connect(
    user="WITNESS", password="x", account="TMORG-TMTEST", host=place.hostname, port=place.port, protocol=place.scheme,
    database=database,
)
for statement in statements:
    print(json.dumps(connection.cursor().execute(statement).fetchall(), default=str))
