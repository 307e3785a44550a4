//! `tidemill.toml`: project-wide settings and named targets.
//!
//! Text becomes [`Settings`] in one step that reports every fault at once, with file, line, key and a suggestion. A project
//! without the file gets a lake and a local warehouse in a folder, and no Kafka.

mod collect;
mod kafka;
mod parse;
mod reference;
mod registry;
mod sections;
mod sinks;
mod store_url;
mod target;
#[cfg(test)]
mod tests;
mod variables;
mod warehouse;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::document::{parse_duration, parse_instant};
pub use collect::{ApiKey, CollectSettings, OAuthSettings, TlsFiles};
pub use parse::{ConfigError, SettingsRequest, load};
pub(crate) use reference::contract_keys;
pub use reference::{KeyDoc, contract_reference, render_markdown, settings_reference};
pub use registry::{RegistryAuth, RegistrySettings};

use crate::secret::Secret;

/// Everything that one invocation runs with: the file's project-wide part and the one target that was chosen.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The project's name; the folder's unless declared.
    pub name: String,
    /// The folder that holds `tidemill.toml` or `dbt_project.yml`.
    pub project_dir: PathBuf,
    /// The dbt project, absolute. The project folder itself when the `dbt_project.yml` lies there.
    pub models_dir: PathBuf,
    /// The target's name.
    pub target: String,
    /// Kafka; `None` when the target has no broker (models only).
    pub kafka: Option<KafkaSettings>,
    /// The lake.
    pub lake: LakeSettings,
    /// Where `to: snowflake` publishes: Snowflake itself or the local warehouse.
    pub warehouse: WarehouseSettings,
    /// The HTTP door; `None` when the target has none.
    pub collect: Option<CollectSettings>,
    /// The schema registry; `None` when the target has none.
    pub registry: Option<RegistrySettings>,
    /// Where `to: kafka` and `to: redis` publish.
    pub sinks: SinkSettings,
    /// Limits of ingest.
    pub ingest: IngestSettings,
    /// Limits of transform.
    pub transform: TransformSettings,
    /// Care of tables.
    pub maintenance: MaintenanceSettings,
}

/// A Kafka cluster.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// Consumer group, for lag tools only: the lake decides where to resume.
    pub group: String,
    /// librdkafka properties by their own names; `bootstrap.servers` is among them. Values are secret by default, so that
    /// no password is printed because its key was not on a list.
    pub properties: BTreeMap<String, Secret>,
}

impl KafkaSettings {
    /// One property's value.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(Secret::expose_secret)
    }
}

/// An object store with a prefix: the lake, or the local warehouse.
#[derive(Clone, Debug)]
pub struct LakeSettings {
    /// Absolute URL with a trailing slash: `file:///…/`, `s3://bucket/prefix/`, `gs://…/`, `az://…/`.
    pub url: url::Url,
    /// Options of object_store by their own names (`aws_access_key_id`, …).
    pub options: BTreeMap<String, Secret>,
}

/// Topics and Redis of a target.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// Another cluster than the target's own.
    pub kafka: Option<KafkaSettings>,
    /// Replaces the topic of a publication by another name, e.g. `"zoner.alerts" = "dev.zoner.alerts"`.
    pub topics: BTreeMap<String, String>,
    /// What a topic's ledger is called after the topic's name.
    pub ledger_suffix: String,
    /// Whether topics that are missing are made.
    pub create_topics: bool,
    /// The Redis server; `None` when the target has none.
    pub redis: Option<RedisSettings>,
}

impl Default for SinkSettings {
    fn default() -> Self {
        Self {
            kafka: None,
            topics: BTreeMap::new(),
            ledger_suffix: ".ledger".to_owned(),
            create_topics: true,
            redis: None,
        }
    }
}

/// A Redis server.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// `redis://user:password@host:6379/0`; holds the password, hence secret as a whole.
    pub url: Secret,
}

/// The warehouse of a target.
#[derive(Clone, Debug)]
pub enum WarehouseSettings {
    /// A folder of Delta tables, `<url>/<database>/<schema>/<table>/`.
    Local(LakeSettings),
    /// Snowflake.
    Snowflake(Box<SnowflakeSettings>),
}

/// A Snowflake account and the loader's user.
#[derive(Clone, Debug)]
pub struct SnowflakeSettings {
    /// `ORG-ACCOUNT`.
    pub account: String,
    /// The loader's user.
    pub user: String,
    /// The loader's role.
    pub role: Option<String>,
    /// The warehouse that loads.
    pub warehouse: Option<String>,
    /// Another base URL than the account's own: private link, or a test server on loopback.
    pub url: Option<url::Url>,
    /// How to log in.
    pub auth: SnowflakeAuth,
    /// Replaces the database of a target table by another name, e.g. `ZONER_DB = "ZONER_DB_DEV"`.
    pub databases: BTreeMap<String, String>,
    /// Longest time for one statement.
    pub statement_timeout: Duration,
    /// Statements that the server is asked to answer without running them (the emulator's `nop_regexes`).
    pub session_parameters: BTreeMap<String, serde_json::Value>,
}

/// How the loader proves who it is.
#[derive(Clone, Debug)]
pub enum SnowflakeAuth {
    /// RSA keys as PKCS#8 PEM, tried in order (two while a key is being rotated), with an optional passphrase.
    KeyPair {
        /// PEM texts.
        private_keys: Vec<Secret>,
        /// Opens an encrypted key.
        passphrase: Option<Secret>,
    },
    /// A password or a programmatic access token.
    Password(Secret),
    /// A token of an identity provider that the account trusts.
    OAuth(Secret),
}

/// When a batch closes, and what ingest may hold in memory.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// A batch closes at this many records …
    pub max_batch_rows: usize,
    /// … or this many payload bytes …
    pub max_batch_bytes: usize,
    /// … or this long after its first record.
    pub max_batch_age: Duration,
    /// Bytes for buffered records and key fingerprints together.
    pub memory_budget_bytes: usize,
    /// What a first start does where the lake has no offset.
    pub start: StartOffsets,
    /// What a gap in the offsets does.
    pub on_gap: OnGap,
}

/// Where a partition is read from when the lake has no offset for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartOffsets {
    /// The first offset that Kafka still has.
    Earliest,
    /// The end of the partition at start.
    Latest,
    /// The first record at or after this instant, milliseconds since the epoch, UTC.
    Timestamp(i64),
    /// Given offsets, by `topic/partition`; partitions that are not named start at the earliest.
    Offsets(BTreeMap<String, i64>),
}

/// What to do when Kafka no longer has the next offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// The partition stops with an error; the others go on.
    Stop,
    /// The gap is recorded in the commit and reading goes on behind it.
    Skip,
}

/// Limits of transform.
#[derive(Clone, Debug)]
pub struct TransformSettings {
    /// Models built side by side.
    pub threads: usize,
    /// Bytes that DataFusion may hold before it spills.
    pub memory_budget_bytes: usize,
}

/// Care of tables, done as part of running and by `tidemill maintain`.
#[derive(Clone, Debug)]
pub struct MaintenanceSettings {
    /// A checkpoint every this many commits.
    pub checkpoint_interval: u64,
    /// Files of a partition are compacted when this many are smaller than half the target size.
    pub compact_min_files: usize,
    /// Size that data files grow toward.
    pub target_file_bytes: u64,
    /// Files that no version within this time refers to are deleted, log entries likewise.
    pub retention: Duration,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self {
            max_batch_rows: 200_000,
            max_batch_bytes: 64 << 20,
            max_batch_age: Duration::from_millis(250),
            memory_budget_bytes: 256 << 20,
            start: StartOffsets::Earliest,
            on_gap: OnGap::Stop,
        }
    }
}

impl Default for TransformSettings {
    fn default() -> Self {
        Self { threads: 2, memory_budget_bytes: 512 << 20 }
    }
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        Self {
            checkpoint_interval: 100,
            compact_min_files: 16,
            target_file_bytes: 128 << 20,
            retention: Duration::from_hours(7 * 24),
        }
    }
}
