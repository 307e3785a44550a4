//! What holds for every target of `tidemill.toml`.

use super::super::{KeyDoc, doc};

pub(super) const PROJECT: &[KeyDoc] = &[
    doc(
        "name",
        "text",
        "the folder's name",
        "name = \"families\"",
        "Name of the project; part of the default consumer group.",
    ),
    doc(
        "default_target",
        "text",
        "the only target, or `local`",
        "default_target = \"local\"",
        "Target that is used without `--target` and `TIDEMILL_TARGET`.",
    ),
    doc(
        "models_dir",
        "path",
        "`dbt-like-models` if it is there, else `.`",
        "models_dir = \"dbt\"",
        "Folder with `dbt_project.yml`, relative to the project.",
    ),
    doc(
        "ingest.max_batch_rows",
        "integer",
        "200_000",
        "max_batch_rows = 50_000",
        "A batch closes at this many records. Larger batches make fewer, larger files and use more memory.",
    ),
    doc(
        "ingest.max_batch_bytes",
        "size",
        "64 MiB",
        "max_batch_bytes = \"32 MiB\"",
        "A batch closes at this many bytes of record values.",
    ),
    doc(
        "ingest.max_batch_age",
        "duration",
        "250ms",
        "max_batch_age = \"5s\"",
        "A batch closes this long after its first record. Shorter: fresher tables; longer: fewer commits and files.",
    ),
    doc(
        "ingest.memory_budget",
        "size",
        "256 MiB",
        "memory_budget = \"512 MiB\"",
        "Bytes for buffered records and key fingerprints together. Consumers pause when it is used up.",
    ),
    doc(
        "ingest.start",
        "earliest, latest, a time, or a table of offsets",
        "earliest",
        "start = \"2025-03-09T00:00:00Z\"",
        "Where a partition is first read from when the lake has no offset for it. A table gives offsets by \
         `topic/partition`: `{ \"user-login/0\" = 1200 }`; partitions that it does not name start at the earliest.",
    ),
    doc(
        "ingest.on_gap",
        "stop or skip",
        "stop",
        "on_gap = \"skip\"",
        "What happens when Kafka no longer has the next offset: the partition stops with an error, or the gap is recorded in \
         the commit and reading goes on behind it.",
    ),
    doc(
        "transform.threads",
        "integer",
        "2",
        "threads = 4",
        "Models that are built side by side. Each may use the memory budget's share.",
    ),
    doc(
        "transform.memory_budget",
        "size",
        "512 MiB",
        "memory_budget = \"2 GiB\"",
        "Bytes that queries hold before they spill to disk.",
    ),
    doc(
        "maintenance.checkpoint_interval",
        "integer",
        "100",
        "checkpoint_interval = 50",
        "A Delta checkpoint every this many commits. Smaller: tables open faster; each checkpoint costs about 0.1 s.",
    ),
    doc(
        "maintenance.compact_min_files",
        "integer",
        "16",
        "compact_min_files = 32",
        "A partition is compacted when this many of its files are smaller than half the target size.",
    ),
    doc(
        "maintenance.target_file_bytes",
        "size",
        "128 MiB",
        "target_file_bytes = \"256 MiB\"",
        "Size that data files grow toward by compaction.",
    ),
    doc(
        "maintenance.retention",
        "duration",
        "7d",
        "retention = \"30d\"",
        "Files that no version of this age or younger refers to are deleted, and log entries likewise. Longer: older versions \
         stay readable; shorter: less storage.",
    ),
];
