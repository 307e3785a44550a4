//! Source contracts: what a topic family carries, declared once in `_<source>__sources.yml`.
//!
//! dbt's words (`sources: tables: columns: data_type`) plus `config.meta.tidemill`. Ingest, models, tests and docs read the
//! same [`Contract`]; no shape is written twice. Rules numbered `X…` are those of the systems page.

mod columns;
mod keys;
mod parse;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod vars;

use std::path::PathBuf;
use std::time::Duration;

pub use parse::{ContractError, load_dir};
pub use vars::Vars;

use crate::clock::Micros;
use crate::error::Location;
use crate::names::SourceName;

/// One source table: a family of topics that land in one raw table.
#[derive(Clone, Debug)]
pub struct Contract {
    /// dbt's source and table.
    pub name: SourceName,
    /// The system for logs, e.g. `zoner`; the source's name unless declared.
    pub system: String,
    /// Where it is declared.
    pub location: Location,
    /// What it is, for docs.
    pub description: String,
    /// Topics, in the order of declaration.
    pub topics: Vec<TopicRule>,
    /// The form of a record's value.
    pub format: Format,
    /// The reader's Avro schema, beside the contract; without one, each record is read by its writer's alone.
    pub schema: Option<SchemaFile>,
    /// Where the event time is.
    pub event_time: EventTime,
    /// How the idempotency key is found; the first rule that yields one wins.
    pub key: Vec<KeyRule>,
    /// Width of the raw table's partitions.
    pub partition_by: PartitionBy,
    /// What becomes of fields that no column names.
    pub on_extra: OnExtra,
    /// Lateness up to which an event is not late (X11).
    pub grace: Duration,
    /// Larger records are quarantined as `too_large`.
    pub max_record_bytes: usize,
    /// Earlier event times are quarantined (X5). Default 2000-01-01.
    pub min_event_time_us: Micros,
    /// Event times further ahead of the record's timestamp are quarantined (X5). Default 24 h.
    pub max_future: Duration,
    /// Payload columns, in order.
    pub columns: Vec<ContractColumn>,
    /// Read at all; contracts of topics that do not exist yet are shipped switched off.
    pub enabled: bool,
}

impl Contract {
    /// A contract of which nothing is said but name, event time and columns; the rest is as when the user leaves it out.
    #[must_use]
    pub fn plain(name: SourceName, event_time: &str, columns: Vec<ContractColumn>) -> Self {
        Self {
            system: name.source.clone(),
            location: Location::new(PathBuf::from(format!("_{}__sources.yml", name.source)), 1, 1),
            description: String::new(),
            topics: Vec::new(),
            format: Format::Json,
            schema: None,
            event_time: EventTime { column: event_time.to_owned() },
            key: vec![KeyRule::Coordinates],
            partition_by: PartitionBy::Day,
            on_extra: OnExtra::Keep,
            grace: table::GRACE,
            max_record_bytes: table::MAX_RECORD_BYTES,
            min_event_time_us: table::MIN_EVENT_TIME_US,
            max_future: table::MAX_FUTURE,
            columns,
            enabled: true,
            name,
        }
    }

    /// A column by name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ContractColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// One topic, or a regular expression over topics (`^events\..*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRule {
    /// Name, or a regular expression when it begins with `^`.
    pub pattern: String,
    /// Values for fields that a record of this topic leaves out: `activity` on a per-activity topic.
    pub defaults: Vec<(String, String)>,
}

/// The form of a record's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// A record in the schema registry's wire format: a zero byte, the id of the writer's Avro schema, its binary encoding.
    Avro,
    /// A JSON object behind the same prefix, which names a JSON Schema; or a plain one.
    JsonSchema,
}

impl Format {
    /// Whether records name a schema that the target's registry holds.
    #[must_use]
    pub fn needs_registry(self) -> bool {
        self != Self::Json
    }
}

/// A schema that stands in a file beside its contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFile {
    /// Where it lies, the folder of the contract's file before it.
    pub path: PathBuf,
    /// Its text, JSON.
    pub text: String,
}

/// Where the event time is, and in which unit its numbers count (X3): never guessed from magnitude.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTime {
    /// The contract column.
    pub column: String,
}

/// One way to an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// A payload column's text, verbatim; skipped when absent, null or empty.
    Field(String),
    /// A Kafka header's value; skipped when absent.
    Header(String),
    /// X6: SHA-256 over the JSON array of these columns, first 16 bytes in hex.
    Hash(Vec<String>),
    /// `<topic>/<partition>/<offset>`, for sources that have nothing else; for a record of a file its place in the file.
    Coordinates,
}

/// Width of the raw table's partitions, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionBy {
    /// `event_date`.
    Day,
    /// `event_date` and `event_hour`.
    Hour,
}

/// What becomes of fields that the contract does not know (X10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExtra {
    /// Kept in `_extra` as a JSON object, in the order of the record.
    Keep,
    /// Dropped.
    Drop,
    /// The record is quarantined (`bad_value`).
    Quarantine,
}

/// A payload column.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own in the user's file")]
pub struct ContractColumn {
    /// Column name in the raw table.
    pub name: String,
    /// What it is, for docs.
    pub description: String,
    /// JSON paths that are tried in order, each a list of object keys; `[[name]]` unless declared (`from: data.id`).
    pub paths: Vec<Vec<String>>,
    /// Paths that count instead where another column says so.
    pub paths_when: Option<PathsWhen>,
    /// The lake's type.
    pub data_type: ColumnType,
    /// Absent or null is `missing_field`, unless `on_missing` gives a value.
    pub required: bool,
    /// Required only for records whose other column holds one of these texts (after renaming).
    pub required_when: Option<(String, Vec<String>)>,
    /// Required for records in which this other column is absent.
    pub required_without: Option<String>,
    /// The value of an absent or null field. Text columns take it for `""` as well when `empty_is_missing`.
    pub on_missing: Option<String>,
    /// `""` counts as absent. Always so for times and numbers.
    pub empty_is_missing: bool,
    /// Numbers may come as a string of digits. A time column always accepts that (X3).
    pub accept_text: bool,
    /// Texts read as another text, before anything else sees them: `meals` -> `meal`.
    pub aliases: Vec<(String, String)>,
    /// Closed set of texts; empty = any.
    pub accepted_values: Vec<String>,
    /// Smallest and greatest number, both included.
    pub min: Option<f64>,
    /// See `min`.
    pub max: Option<f64>,
    /// Longest text in bytes.
    pub max_bytes: Option<usize>,
    /// Format of a text.
    pub text_format: Option<TextFormat>,
    /// Unit of numeric times; also of a `BIGINT` column that holds one (`timestamp` of logins: seconds, floored).
    pub time_unit: Option<TimeUnit>,
    /// Zone of a time text without offset; UTC unless declared.
    pub time_zone: Option<String>,
    /// Never logged, masked in Snowflake.
    pub pii: bool,
}

impl ContractColumn {
    /// A column of which nothing is said but name and type: optional, read from the field of its name, any value taken.
    #[must_use]
    pub fn plain(name: &str, data_type: ColumnType) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            paths: vec![vec![name.to_owned()]],
            paths_when: None,
            data_type,
            required: false,
            required_when: None,
            required_without: None,
            on_missing: None,
            empty_is_missing: false,
            accept_text: false,
            aliases: Vec::new(),
            accepted_values: Vec::new(),
            min: None,
            max: None,
            max_bytes: None,
            text_format: None,
            time_unit: None,
            time_zone: None,
            pii: false,
        }
    }
}

/// Where a column is read from in records whose other column holds one of some texts (after renaming). The other column stands
/// before it in the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathsWhen {
    /// The text column that decides.
    pub column: String,
    /// Its texts.
    pub values: Vec<String>,
    /// JSON paths that are tried in order.
    pub paths: Vec<Vec<String>>,
}

/// The lake's types.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// 64-bit integer.
    BigInt,
    /// Double; NaN and infinities are `bad_value`.
    Double,
    /// Exact decimal: precision, scale.
    Decimal(u8, i8),
    /// `true`, `false`.
    Boolean,
    /// Calendar day.
    Date,
    /// Microseconds, UTC.
    Timestamp,
    /// Any JSON value, kept as its text.
    Json,
    /// Object with named fields.
    Struct(Vec<(String, ColumnType)>),
    /// Array of one type.
    List(Box<ColumnType>),
}

/// Unit of a numeric time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Second,
    /// Milliseconds.
    Millisecond,
    /// Microseconds.
    Microsecond,
    /// Nanoseconds.
    Nanosecond,
}

/// Format of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// IPv4 or IPv6 address.
    Ip,
    /// UUID in its hyphenated form.
    Uuid,
    /// Zone of the IANA data base.
    TimeZone,
}

/// All contracts of a project.
#[derive(Clone, Debug, Default)]
pub struct Contracts {
    /// In the order of files and declarations.
    pub contracts: Vec<Contract>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

impl Contracts {
    /// A contract by its name.
    #[must_use]
    pub fn get(&self, name: &SourceName) -> Option<&Contract> {
        self.contracts.iter().find(|contract| &contract.name == name)
    }
}
