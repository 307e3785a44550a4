"""Balances a project's books from Kafka, the lake's Parquet, result topics and Redis alone, by readers that share no code with ours.

    python outside_books.py PROJECT BOOTSTRAP RECONCILED.json [REDIS_PORT]

`RECONCILED.json` is what `tidemill --format json reconcile --deep` printed. Per partition of each topic: every offset of the log is
a row of the raw table, an entry of the quarantine, a tombstone, a copy of a row that landed, or no record at all; the sums are
those of `reconcile`. Each local table, each result topic and each pattern of Redis keys holds as many rows as
`reconcile` says. Prints a line per partition
that differs and ends with 1 when one does.

A copy is told by its payload: but for fields that only the copy has, it says what a record says that landed.
"""

import json
import os
import re
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import deltalake
import polars
from kafka import KafkaConsumer, TopicPartition

OUTCOMES = ("offsets", "landed", "duplicates", "quarantined", "tombstones", "skipped")
# What a copy may have in addition: the number of the attempt, and the activity that its first topic's name implied.
OF_A_COPY = ("attempt", "activity")


def consumer_of(bootstrap: str) -> KafkaConsumer:
    """A reader in no group, of committed records alone."""
    return KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, isolation_level="read_committed", group_id=None
    )


def records(consumer: KafkaConsumer, partition: TopicPartition) -> tuple[int, int, list]:
    """First offset, next offset, and all records of a partition."""
    consumer.assign([partition])
    start = consumer.beginning_offsets([partition])[partition]
    end = consumer.end_offsets([partition])[partition]
    consumer.seek(partition, start)
    found = []
    while consumer.position(partition) < end:
        for batch in consumer.poll(timeout_ms=1_000).values():
            found.extend(record for record in batch if record.offset < end)
    return start, end, found


def identity(payload: bytes) -> str:
    """What an event says, whatever the order of its fields."""
    try:
        fields = json.loads(payload)
    except ValueError:
        return payload.hex()
    if not isinstance(fields, dict):
        return payload.hex()
    told = {name: value for name, value in fields.items() if name not in OF_A_COPY}
    # A number and its text are one value: producers send both.
    return json.dumps(told, sort_keys=True, default=str).replace('"', "")


def offsets_of(folder: Path, topic: str, partition: str, offset: str) -> dict[tuple[str, int], list[int]]:
    """Offsets by topic and partition, out of a table's Parquet."""
    if not (folder / "_delta_log").is_dir():
        return {}
    frame = polars.read_delta(str(folder), columns=[topic, partition, offset]).drop_nulls()
    groups = frame.group_by(topic, partition).agg(polars.col(offset))
    return {(row[0], row[1]): row[2] for row in groups.iter_rows()}


def balance(consumer: KafkaConsumer, project: Path, source: dict, quarantined: dict) -> list[str]:
    """What does not balance in the partitions of one source."""
    raw = project.joinpath("lake", "raw", *source["source"].split("."))
    landed = offsets_of(raw, "_topic", "_partition", "_offset")
    faults, seen, told = [], {}, set()
    for part in source["partitions"]:
        place = (part["topic"], part["partition"])
        start, end, found = records(consumer, TopicPartition(*place))
        seen[place] = (start, end, found)
        rows = set(landed.get(place, []))
        told |= {identity(record.value) for record in found if record.value is not None and record.offset in rows}
    for part in source["partitions"]:
        place = (part["topic"], part["partition"])
        start, end, found = seen[place]
        rows, bad = landed.get(place, []), quarantined.get(place, [])
        kept = set(rows) | set(bad)
        tombstones = [record for record in found if record.value is None]
        rest = [record for record in found if record.value is not None and record.offset not in kept]
        lost = [record.offset for record in rest if identity(record.value) not in told]
        if lost:
            faults.append(f"{place}: neither landed nor a copy of what did: offsets {lost[:5]}")
        if invented := kept - {record.offset for record in found}:
            faults.append(f"{place}: in the lake but not in the topic: offsets {sorted(invented)[:5]}")
        if len(kept) != len(rows) + len(bad):
            faults.append(f"{place}: an offset is in the lake more than once")
        sums = (end - start, len(rows), len(rest), len(bad), len(tombstones), end - start - len(found))
        ours = tuple(part[name] for name in OUTCOMES)
        if sums != ours:
            faults.append(f"{place}: {dict(zip(OUTCOMES, sums, strict=True))} where reconcile says {ours}")
    return faults


def redis_keys(port: int, pattern: str) -> int:
    """Keys under a pattern whose values are JSON objects, in Redis' own protocol."""

    def answer(stream: BinaryIO) -> object:
        kind, text = (line := stream.readline().strip())[:1], line[1:]
        if kind == b"*":
            return [answer(stream) for _ in range(int(text))]
        if kind == b"$":
            return stream.read(int(text) + 2)[:-2] if int(text) >= 0 else None
        raise ValueError(line)

    with socket.create_connection(("127.0.0.1", port)) as link, link.makefile("rwb") as stream:

        def ask(*words: bytes) -> object:
            stream.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
            stream.flush()
            return answer(stream)

        keys = ask(b"KEYS", pattern.encode())
        values = ask(b"MGET", *keys) if keys else []
        return sum(isinstance(json.loads(value), dict) for value in values)


def holds(consumer: KafkaConsumer, project: Path, page: dict, redis_port: int | None) -> bool | None:
    """Whether a sink holds as many rows as the page says, counted from outside; none for sinks that are not looked at here."""
    target = page["target"]
    if page["sink"] == "local":
        folder = project.joinpath("warehouse", target["database"], target["schema"], target["table"])
        is_there = (folder / "_delta_log").is_dir()
        rows = deltalake.DeltaTable(str(folder)).to_pyarrow_table().num_rows if is_there else 0
        return rows == page["held_rows"]
    if page["sink"] == "kafka":
        newest, messages = {}, 0
        for partition in sorted(consumer.partitions_for_topic(target["topic"]) or ()):
            found = records(consumer, TopicPartition(target["topic"], partition))[2]
            newest.update((record.key, record.value) for record in found)
            messages += len(found)
        # Rows may share a key, and a changed row is sent again: with a key of its own each, both bounds meet.
        return sum(value is not None for value in newest.values()) <= page["held_rows"] <= messages
    if page["sink"] == "redis" and redis_port:
        # `zoner:insights:{user_id}`: what stands for a column is anything.
        return redis_keys(redis_port, re.sub(r"\{\w+\}", "*", target["keys"])) == page["held_rows"]
    return None


def main() -> int:
    project, bootstrap, reconciled = Path(sys.argv[1]), sys.argv[2], json.loads(Path(sys.argv[3]).read_text())
    redis_port = int(sys.argv[4]) if len(sys.argv) > 4 else None
    consumer = consumer_of(bootstrap)
    quarantined = offsets_of(project / "lake" / "ops" / "quarantine", "topic", "partition", "offset")
    faults, totals, pages = [], Counter(), 0
    for source in reconciled["sources"]:
        faults += balance(consumer, project, source, quarantined)
        for part in source["partitions"]:
            totals.update({name: part[name] for name in OUTCOMES})
    for page in reconciled["sinks"]:
        agrees = holds(consumer, project, page, redis_port)
        pages += agrees is not None
        if agrees is False:
            faults.append(f"{page['target']} does not hold {page['held_rows']} rows, as reconcile says")
    print("\n".join(faults) or f"equal: {dict(totals)}, {pages} sinks")
    return 0 if totals["offsets"] and pages and not faults else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Threads of the readers may still run, and the interpreter's own end would wait for or trip over them.
    os._exit(code)
