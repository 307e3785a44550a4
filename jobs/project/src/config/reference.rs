//! Every key of `tidemill.toml` and every option of a contract, in one table each: the readers take their lists of known
//! keys from here, and so does the reference page. A key that is not here does not exist.

/// What there is to say about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// Dotted path. `<name>` stands for a name of the user's choice, `[]` for an item of a list.
    pub key: &'static str,
    /// What the value may be.
    pub type_name: &'static str,
    /// What holds when the key is not there; `required` when it must be.
    pub default: &'static str,
    /// What it does, and its price.
    pub description: &'static str,
    /// The key with a value, as a line of its file.
    pub example: &'static str,
}

const fn doc(
    key: &'static str,
    type_name: &'static str,
    default: &'static str,
    example: &'static str,
    description: &'static str,
) -> KeyDoc {
    KeyDoc { key, type_name, default, description, example }
}

/// The keys of `tidemill.toml`, in the order of the page.
#[must_use]
pub fn settings_reference() -> &'static [KeyDoc] {
    SETTINGS
}

/// The options of a contract: `config.meta.tidemill` of a source or a table, and of a column (`columns[].…`).
#[must_use]
pub fn contract_reference() -> &'static [KeyDoc] {
    CONTRACT
}

/// The keys that may stand in a section of `tidemill.toml`; the empty name is the top of the file.
pub(crate) fn settings_keys(section: &str) -> Vec<&'static str> {
    known_keys(SETTINGS, section)
}

/// The keys that may stand in a part of a contract's options; the empty name is the table's own.
pub(crate) fn contract_keys(section: &str) -> Vec<&'static str> {
    known_keys(CONTRACT, section)
}

fn known_keys(table: &'static [KeyDoc], section: &str) -> Vec<&'static str> {
    let mut keys: Vec<&'static str> = Vec::new();
    for doc in table {
        let inside = if section.is_empty() {
            Some(doc.key)
        } else {
            doc.key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
        };
        let Some(key) = inside.and_then(|rest| rest.split('.').next()) else { continue };
        // `topics[].name` declares what is inside of `topics`, which has a line of its own; `<name>` is no key.
        if !key.ends_with("[]") && !key.starts_with('<') && !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Renders the reference page, `docs/configuration.md`.
#[must_use]
pub fn render_markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n## Keys of `tidemill.toml`\n\n");
    push_table(&mut page, SETTINGS);
    page.push_str(CONTRACT_INTRODUCTION);
    page.push_str("\n### Options of a source or a table\n\n");
    let (columns, tables): (Vec<KeyDoc>, Vec<KeyDoc>) =
        CONTRACT.iter().partition(|doc| doc.key.starts_with("columns[]"));
    push_table(&mut page, &tables);
    page.push_str("\n### Options of a column\n\n");
    push_table(&mut page, &columns);
    page.push_str(DATA_TYPES);
    page
}

fn push_table(page: &mut String, docs: &[KeyDoc]) {
    page.push_str("| key | type | default | what it does | example |\n| --- | --- | --- | --- | --- |\n");
    let cell = |text: &str| text.replace('|', "\\|");
    for doc in docs {
        // A value stands as code, a sentence does not.
        let is_value = doc.default.starts_with(|first: char| first.is_ascii_digit()) || VALUES.contains(&doc.default);
        let default = if is_value { format!("`{}`", doc.default) } else { doc.default.to_owned() };
        let cells = [
            format!("`{}`", doc.key),
            cell(doc.type_name),
            cell(&default),
            cell(doc.description),
            format!("`{}`", cell(doc.example)),
        ];
        page.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
}

/// Defaults that are words of the file's own.
const VALUES: [&str; 9] = ["earliest", "stop", "local", "target/tidemill/lake", "true", "false", "json", "day", "keep"];

const SETTINGS: &[KeyDoc] = &[
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
    doc(
        "target.<name>.kafka.group",
        "text",
        "`tidemill-` and the project's name",
        "group = \"zoner_analytics\"",
        "Consumer group, for lag tools: the lake decides where to resume. A target without `kafka` has no broker.",
    ),
    doc(
        "target.<name>.kafka.<property>",
        "text, integer, decimal or boolean",
        "librdkafka's own",
        "\"sasl.password\" = \"${KAFKA_PASSWORD}\"",
        "Any librdkafka property by its own name, quoted. `bootstrap.servers` is required. Tidemill sets \
         `enable.auto.commit`, `enable.auto.offset.store`, `auto.offset.reset`, `isolation.level` and `group.id` itself.",
    ),
    doc(
        "target.<name>.lake.url",
        "path or URL",
        "target/tidemill/lake",
        "url = \"s3://acme-lake/tidemill\"",
        "Where the Delta tables lie: a folder, `file://`, `s3://`, `gs://`, `az://` or `abfss://`.",
    ),
    doc(
        "target.<name>.lake.options.<option>",
        "text, integer or boolean",
        "none",
        "aws_region = \"eu-central-1\"",
        "Any option of object_store by its own name: `aws_access_key_id`, `aws_endpoint`, `google_service_account`, \
         `azure_storage_account_key`, …",
    ),
    doc(
        "target.<name>.warehouse.type",
        "local or snowflake",
        "local",
        "type = \"snowflake\"",
        "Where `to: snowflake` publishes.",
    ),
    doc(
        "target.<name>.warehouse.path",
        "path or URL",
        "`warehouse`, beside the lake",
        "path = \"./warehouse\"",
        "`local`: where the warehouse's Delta tables lie. A URL uses the options of the lake.",
    ),
    doc(
        "target.<name>.warehouse.account",
        "text",
        "required for snowflake",
        "account = \"ACME-ANALYTICS\"",
        "Account identifier, organisation and account joined by a hyphen.",
    ),
    doc(
        "target.<name>.warehouse.user",
        "text",
        "required for snowflake",
        "user = \"TIDEMILL_LOADER\"",
        "The loader's user.",
    ),
    doc("target.<name>.warehouse.role", "text", "the user's own", "role = \"LOADER\"", "The loader's role."),
    doc(
        "target.<name>.warehouse.warehouse",
        "text",
        "the user's own",
        "warehouse = \"LOAD_WH\"",
        "The virtual warehouse that loads.",
    ),
    doc(
        "target.<name>.warehouse.url",
        "URL",
        "the account's own",
        "url = \"https://acme.privatelink.snowflakecomputing.com\"",
        "Another base URL: private link, or a test server. `http` is for loopback only.",
    ),
    doc(
        "target.<name>.warehouse.private_key",
        "secret",
        "none",
        "private_key = \"file:/run/secrets/snowflake.p8\"",
        "RSA key as PKCS#8 PEM. One of `private_key`, `private_keys`, `password`, `token` is required.",
    ),
    doc(
        "target.<name>.warehouse.private_keys",
        "list of secrets",
        "none",
        "private_keys = [\"file:new.p8\", \"file:old.p8\"]",
        "Keys that are tried in order, for the time of a key's rotation.",
    ),
    doc(
        "target.<name>.warehouse.private_key_passphrase",
        "secret",
        "none",
        "private_key_passphrase = \"${SNOWFLAKE_PASSPHRASE}\"",
        "Opens an encrypted key.",
    ),
    doc(
        "target.<name>.warehouse.password",
        "secret",
        "none",
        "password = \"${SNOWFLAKE_PASSWORD}\"",
        "Password of the user.",
    ),
    doc(
        "target.<name>.warehouse.token",
        "secret",
        "none",
        "token = \"file:/run/secrets/snowflake_pat\"",
        "Programmatic access token.",
    ),
    doc(
        "target.<name>.warehouse.databases.<name>",
        "text",
        "none",
        "ZONER_DB = \"ZONER_DB_DEV\"",
        "Replaces the database of target tables by another one.",
    ),
    doc(
        "target.<name>.warehouse.statement_timeout",
        "duration",
        "10m",
        "statement_timeout = \"30m\"",
        "Longest time for one statement.",
    ),
    doc(
        "target.<name>.warehouse.session_parameters.<name>",
        "any value",
        "none",
        "QUERY_TAG = \"tidemill\"",
        "Parameters of the session, by Snowflake's own names.",
    ),
    doc(
        "target.<name>.ingest",
        "table",
        "none",
        "ingest = { max_batch_age = \"5s\" }",
        "Keys of `[ingest]` for this target alone.",
    ),
    doc(
        "target.<name>.transform",
        "table",
        "none",
        "transform = { threads = 8 }",
        "Keys of `[transform]` for this target alone.",
    ),
    doc(
        "target.<name>.maintenance",
        "table",
        "none",
        "maintenance = { retention = \"30d\" }",
        "Keys of `[maintenance]` for this target alone.",
    ),
];

const CONTRACT: &[KeyDoc] = &[
    doc(
        "topic",
        "text",
        "none",
        "topic: user-login",
        "The topic, or a regular expression that begins with `^`. Without topics the table is fed by files alone.",
    ),
    doc(
        "topics",
        "list",
        "none",
        "topics: [user_activity, {name: sleep, set: {activity: sleep}}]",
        "Several topics that land in one table; each a name, a regular expression, or a table of the next two keys.",
    ),
    doc(
        "topics[].name",
        "text",
        "required",
        "name: ^events\\..*",
        "The topic, or a regular expression that begins with `^`.",
    ),
    doc(
        "topics[].set",
        "table of texts",
        "none",
        "set: {activity: meal}",
        "Values of text columns for records of this topic that leave the field out.",
    ),
    doc(
        "system",
        "text",
        "the source's name",
        "system: zoner",
        "The system that the source belongs to, for logs and status.",
    ),
    doc(
        "enabled",
        "boolean",
        "true",
        "enabled: false",
        "Whether the table is read at all. dbt's own `config.enabled` counts too.",
    ),
    doc("format", "json", "json", "format: json", "Form of a record's value: one JSON object."),
    doc(
        "event_time",
        "text or table",
        "required",
        "event_time: created_at",
        "The column that says when an event happened: a timestamp, or a bigint with a unit. It becomes required.",
    ),
    doc(
        "event_time.column",
        "text",
        "required",
        "event_time: {column: timestamp, unit: s}",
        "The column, when a unit or zone stands beside it.",
    ),
    doc(
        "event_time.unit",
        "s, ms, us or ns",
        "none",
        "event_time: {column: timestamp, unit: ms}",
        "Unit of numeric times. Never guessed: without it, only times with a date are read.",
    ),
    doc(
        "event_time.time_zone",
        "IANA name",
        "UTC",
        "event_time: {column: local_time, time_zone: Europe/Berlin}",
        "Zone of times without offset.",
    ),
    doc(
        "idempotency_key",
        "text, list or table",
        "coordinates",
        "idempotency_key: [{field: event_id}, {hash: [user_id, timestamp]}]",
        "What makes two records the same event: one column's text, a list of columns (their hash), `coordinates` (topic, partition, offset: nothing is a duplicate), or a list of rules of which the first that yields a key wins.",
    ),
    doc(
        "idempotency_key.field",
        "text",
        "none",
        "idempotency_key: {field: event_id}",
        "The column's text, verbatim. The column becomes required when no other rule follows.",
    ),
    doc("idempotency_key.header", "text", "none", "idempotency_key: {header: ce_id}", "The value of a Kafka header."),
    doc(
        "idempotency_key.hash",
        "list of columns",
        "none",
        "idempotency_key: {hash: [user_id, timestamp]}",
        "SHA-256 over the columns' values as a JSON array, its first 16 bytes in hex.",
    ),
    doc(
        "idempotency_key.coordinates",
        "boolean",
        "none",
        "idempotency_key: [{header: ce_id}, {coordinates: true}]",
        "Topic, partition and offset.",
    ),
    doc(
        "partition_by",
        "day or hour",
        "day",
        "partition_by: hour",
        "Width of the table's partitions by event time, UTC. Hours suit tables of more than a few million rows a day.",
    ),
    doc(
        "on_missing",
        "text",
        "none",
        "on_missing: unknown",
        "Value of text columns that are absent, null or empty, unless they are required or say otherwise.",
    ),
    doc(
        "on_extra",
        "keep, drop or quarantine",
        "keep",
        "on_extra: drop",
        "What becomes of fields that no column names: kept as JSON in `_extra`, dropped, or the record is quarantined.",
    ),
    doc(
        "grace",
        "duration, or seconds",
        "15m",
        "grace: \"{{ var('zoner_grace_s') }}\"",
        "Lateness up to which an event is not late. Late events are counted all the same; windows are final this long after their end.",
    ),
    doc("max_record_bytes", "size", "1 MiB", "max_record_bytes: 256 KiB", "Larger records are quarantined."),
    doc(
        "min_event_time",
        "date or time",
        "2000-01-01",
        "min_event_time: 2020-01-01",
        "Earlier event times are quarantined: a unit mistaken never lands.",
    ),
    doc(
        "max_future",
        "duration, or seconds",
        "24h",
        "max_future: 1h",
        "Event times further ahead of the record's own timestamp are quarantined.",
    ),
    doc(
        "columns[].from",
        "text or list of texts",
        "the column's name",
        "from: [data.sleep_entry_id, data.id]",
        "Path of the field, keys of objects joined by dots; of a list, the first that is there.",
    ),
    doc(
        "columns[].required",
        "boolean",
        "`false`; `true` for the event time",
        "required: true",
        "Records without the field, or with null, are quarantined.",
    ),
    doc(
        "columns[].required_when",
        "table",
        "none",
        "required_when: {column: event, in: [created, updated]}",
        "Required only for some records.",
    ),
    doc(
        "columns[].required_when.column",
        "text",
        "required",
        "required_when: {column: event, in: [created]}",
        "The text column that decides, after its aliases.",
    ),
    doc(
        "columns[].required_when.in",
        "list of texts",
        "required",
        "required_when: {column: event, in: [created]}",
        "The texts for which the field is required.",
    ),
    doc(
        "columns[].on_missing",
        "a value of the column's type",
        "the table's, for texts",
        "on_missing: 0",
        "Value of a field that is absent or null.",
    ),
    doc(
        "columns[].empty_is_missing",
        "boolean",
        "`true` beside `on_missing`",
        "empty_is_missing: false",
        "Text only: whether an empty text counts as absent. It always does for other types.",
    ),
    doc(
        "columns[].accept_text",
        "boolean",
        "false",
        "accept_text: true",
        "Numbers and booleans only: whether they may come as a text. Times always may.",
    ),
    doc(
        "columns[].aliases",
        "table of texts",
        "none",
        "aliases: {meals: meal}",
        "Text only: values that are read as another value, before anything else sees them.",
    ),
    doc(
        "columns[].accepted_values",
        "list of texts",
        "any",
        "accepted_values: [sleep, meal]",
        "Text only: other values are quarantined.",
    ),
    doc("columns[].min", "number", "none", "min: 1", "Numbers only: smallest value, included."),
    doc("columns[].max", "number", "none", "max: 50400", "Numbers only: greatest value, included."),
    doc("columns[].max_bytes", "size", "none", "max_bytes: 256", "Longest text, in bytes of UTF-8."),
    doc(
        "columns[].text_format",
        "ip, uuid or time_zone",
        "none",
        "text_format: ip",
        "Text only: values in another form are quarantined.",
    ),
    doc(
        "columns[].unit",
        "s, ms, us or ns",
        "none",
        "unit: ms",
        "Timestamps and bigint: unit of numeric times. A bigint keeps the number in this unit, floored.",
    ),
    doc(
        "columns[].time_zone",
        "IANA name",
        "UTC",
        "time_zone: Europe/Berlin",
        "Timestamps only: zone of times without offset.",
    ),
    doc("columns[].pii", "boolean", "false", "pii: true", "Personal data: never logged, masked in Snowflake."),
];

const INTRODUCTION: &str = "<!-- Made from the code: cargo run --release -p tidemill-project --example configuration_reference > docs/configuration.md -->
# Configuration

A project is a folder with a `tidemill.toml`, a `dbt_project.yml`, or both. Every command looks for the nearest one upwards
from where it is called, or takes `--project-dir`. Without `tidemill.toml` a project has one target, `local`, without Kafka:
the lake lies in `target/tidemill/lake/` and the local warehouse beside it.

- **Targets.** `[target.NAME.…]` describes one environment. `--target` chooses it, else `TIDEMILL_TARGET`, else
  `default_target`.
- **Variables.** `${VAR}` in any text is replaced by the environment's variable, `${VAR:-default}` by the default when it is
  not set or empty; `$${` is a literal `${`. Only the chosen target's variables need to be set.
- **Secrets.** The properties of Kafka, the options of the lake and Snowflake's keys, password and token also take
  `file:PATH`: the file's text without the blanks around it. Tidemill never prints any of them.
- **Paths** are relative to the project's folder.
- **Sizes** are bytes or a text with a unit: `\"64 MiB\"` (1024), `\"64 MB\"` (1000). **Durations** carry a unit: `\"250ms\"`,
  `\"10s\"`, `\"15m\"`, `\"24h\"`, `\"7d\"`.
- All faults of the file are reported at once, unknown keys included.
";

const CONTRACT_INTRODUCTION: &str = "
## Contracts

A source's table becomes a contract by options under `config: meta: tidemill:` of the table, or of its source as defaults for
all of its tables, in any YAML file of the models folder. dbt's own keys (`name`, `description`, `columns`, `data_type`) say
the rest. Values may hold `{{ var('name') }}` or `{{ var('name', default) }}`, in quotes.

```yaml
sources:
  - name: shop
    tables:
      - name: orders
        config:
          meta:
            tidemill:
              topic: orders
              event_time: {column: created_at, unit: ms}
              idempotency_key: order_id
        columns:
          - name: order_id
            data_type: text
          - name: created_at
            data_type: timestamp
          - name: amount
            data_type: numeric(12, 2)
            config: {meta: {tidemill: {min: 0}}}
```
";

const DATA_TYPES: &str = "
### Data types

| `data_type` | in the lake |
| --- | --- |
| `text`, `varchar`, `string`, `char` | text |
| `uuid` | text, checked |
| `bigint`, `int`, `integer`, `long`, `int64`, `smallint`, `tinyint`, `int32` | 64-bit integer |
| `double`, `float`, `real`, `float64`, `float8` | double |
| `numeric(p, s)`, `decimal(p, s)`, `number(p, s)` | exact decimal of up to 38 digits |
| `boolean`, `bool` | boolean |
| `date` | date |
| `timestamp`, `timestamptz`, `timestamp_ntz`, `timestamp_tz`, `datetime` | timestamp in microseconds, UTC |
| `json`, `jsonb`, `variant`, `object` | any JSON value, kept as its text |
| `struct<name type, …>` | object with named fields |
| `array<type>`, `type[]` | list |
";

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
