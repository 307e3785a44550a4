//! A project folder for one test: the shipped models under a `tidemill.toml` of its own.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::mutual_tls::Identity;
use crate::snowflake::Address;
use crate::tidemill::Tidemill;
use crate::{installed, s3};

/// The databases that the shipped models publish to.
pub const DATABASES: [&str; 5] = ["ZONER_DB", "ACTIVITY_DB", "CLICKS_DB", "LOGINS_DB", "ZENTRY_DB"];

/// The emulator does not know these statements; the service answers them without effect on a test.
const NOT_EMULATED: &str = "nop_regexes = ['^\\s*REMOVE\\b', '^\\s*GRANT\\b', '^\\s*ALTER\\s+SESSION\\b']";

/// Describes the folder; [`ProjectBuilder::build`] writes it.
#[derive(Clone, Debug, Default)]
pub struct ProjectBuilder {
    kafka: Option<(String, String)>,
    kafka_properties: Vec<(String, String)>,
    topic: Option<(String, String)>,
    lake: Lake,
    lake_options: Vec<(String, String)>,
    snowflake: Option<(Address, String)>,
    also_snowflake: Option<(Address, String)>,
    redis: Option<String>,
    registry: Option<String>,
    registry_tls: Option<(PathBuf, Option<Identity>)>,
    ingest: Vec<(String, String)>,
    files: Vec<(String, String)>,
    empty: bool,
}

#[derive(Clone, Debug, Default)]
enum Lake {
    #[default]
    InProject,
    Folder(PathBuf),
    S3 {
        endpoint: String,
        prefix: String,
    },
}

/// A project in a temporary folder.
#[derive(Debug)]
pub struct Project {
    folder: TempDir,
}

impl ProjectBuilder {
    /// The shipped project with an embedded target: lake and local warehouse in the folder, no broker.
    #[must_use]
    pub fn shipped() -> Self {
        Self::default()
    }

    /// A project with no models but those that [`ProjectBuilder::file`] writes.
    #[must_use]
    pub fn empty() -> Self {
        Self { empty: true, ..Self::default() }
    }

    /// A project of one's own: one source, `shop.orders`, with a contract's options (YAML, in one line) and its columns with
    /// their types.
    #[must_use]
    pub fn shop(contract: &str, columns: &[(&str, &str)]) -> Self {
        let columns: Vec<String> =
            columns.iter().map(|(name, kind)| format!("          - {{name: {name}, data_type: {kind}}}\n")).collect();
        let columns = columns.concat();
        let sources = format!(
            "sources:\n  - name: shop\n    tables:\n      - name: orders\n        config: {{meta: {{tidemill: {contract}}}}}\n        \
             columns:\n{columns}"
        );
        Self::empty()
            .file("dbt_project.yml", "name: shop\nversion: \"1.0.0\"\nconfig-version: 2\nmodel-paths: [models]\n")
            .file("models/_shop__sources.yml", &sources)
    }

    /// Reads from a cluster, in a consumer group.
    #[must_use]
    pub fn kafka(mut self, bootstrap: &str, group: &str) -> Self {
        self.kafka = Some((bootstrap.to_owned(), group.to_owned()));
        self
    }

    /// Sets a librdkafka property.
    #[must_use]
    pub fn kafka_property(mut self, key: &str, value: &str) -> Self {
        self.kafka_properties.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Renames a topic in the contracts: tests that share a broker read topics of their own.
    #[must_use]
    pub fn topic(mut self, shipped: &str, own: &str) -> Self {
        self.topic = Some((shipped.to_owned(), own.to_owned()));
        self
    }

    /// Puts the lake on the S3 server at `endpoint`, under a prefix.
    #[must_use]
    pub fn s3(mut self, endpoint: &str, prefix: &str) -> Self {
        self.lake = Lake::S3 { endpoint: endpoint.to_owned(), prefix: prefix.to_owned() };
        self
    }

    /// Sets an option of object_store.
    #[must_use]
    pub fn lake_option(mut self, key: &str, value: &str) -> Self {
        self.lake_options.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Shares another project's lake.
    #[must_use]
    pub fn lake(mut self, folder: &Path) -> Self {
        self.lake = Lake::Folder(folder.to_path_buf());
        self
    }

    /// Publishes to the emulator; every shipped database becomes `database`.
    #[must_use]
    pub fn snowflake(mut self, address: Address, database: &str) -> Self {
        self.snowflake = Some((address, database.to_owned()));
        self
    }

    /// Adds a target `snowflake` with the same lake; each shipped database `X_DB` is `<prefix>_X_DB` there.
    #[must_use]
    pub fn also_snowflake(mut self, address: Address, prefix: &str) -> Self {
        self.also_snowflake = Some((address, prefix.to_owned()));
        self
    }

    /// Publishes to a Redis server as well.
    #[must_use]
    pub fn redis(mut self, url: &str) -> Self {
        self.redis = Some(url.to_owned());
        self
    }

    /// Asks a schema registry.
    #[must_use]
    pub fn registry(mut self, url: &str) -> Self {
        self.registry = Some(url.to_owned());
        self
    }

    /// Trusts the registry's authority, and shows an own certificate.
    #[must_use]
    pub fn registry_tls(mut self, authority: PathBuf, identity: Option<Identity>) -> Self {
        self.registry_tls = Some((authority, identity));
        self
    }

    /// Sets a key of `[ingest]`, its value in TOML.
    #[must_use]
    pub fn ingest(mut self, key: &str, value: &str) -> Self {
        self.ingest.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Writes a file of the project.
    #[must_use]
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    /// Writes the folder.
    ///
    /// # Errors
    /// When the shipped project cannot be copied, or does not name the topic.
    pub fn build(&self) -> Result<Project> {
        let folder = TempDir::with_prefix("tidemill-project-")?;
        if !self.empty {
            copy_tree(&installed::repository().join("dbt-like-models"), &folder.path().join("dbt-like-models"))?;
        }
        if let Some((shipped, own)) = &self.topic {
            rename_topic(&folder.path().join("dbt-like-models"), shipped, own)?;
        }
        fs::write(folder.path().join("tidemill.toml"), self.settings())?;
        for (path, text) in &self.files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            fs::write(path, text)?;
        }
        Ok(Project { folder })
    }

    fn settings(&self) -> String {
        let mut text = String::from("name = \"test\"\ndefault_target = \"test\"\n");
        let mut line = |arguments: std::fmt::Arguments<'_>| {
            text.write_fmt(arguments).expect("writing to a string does not fail");
            text.push('\n');
        };
        if !self.ingest.is_empty() {
            line(format_args!("[ingest]"));
            for (key, value) in &self.ingest {
                line(format_args!("{key} = {value}"));
            }
        }
        if let Some((bootstrap, group)) = &self.kafka {
            line(format_args!("[target.test.kafka]\ngroup = \"{group}\"\n\"bootstrap.servers\" = \"{bootstrap}\""));
            for (key, value) in &self.kafka_properties {
                line(format_args!("\"{key}\" = \"{value}\""));
            }
        }
        if let Some(url) = &self.registry {
            line(format_args!("[target.test.registry]\nurl = \"{url}\""));
            if let Some((authority, identity)) = &self.registry_tls {
                line(format_args!("tls_ca = \"{}\"", authority.display()));
                if let Some(Identity { certificate, key }) = identity {
                    let (certificate, key) = (certificate.display(), key.display());
                    line(format_args!("tls_certificate = \"{certificate}\"\ntls_key = \"{key}\""));
                }
            }
        }
        match &self.lake {
            Lake::InProject => line(format_args!("[target.test.lake]\nurl = \"lake\"")),
            Lake::Folder(folder) => line(format_args!("[target.test.lake]\nurl = \"{}\"", folder.display())),
            Lake::S3 { endpoint, prefix } => {
                line(format_args!("[target.test.lake]\nurl = \"s3://{}/{prefix}\"", s3::BUCKET));
                line(format_args!("[target.test.lake.options]"));
                for (key, value) in s3::options(endpoint).iter().chain(&self.lake_options) {
                    line(format_args!("{key} = \"{value}\""));
                }
            }
        }
        if let Some(url) = &self.redis {
            line(format_args!("[target.test.sinks.redis]\nurl = \"{url}\""));
        }
        match &self.snowflake {
            None => line(format_args!("[target.test.warehouse]\ntype = \"local\"\npath = \"warehouse\"")),
            Some((address, database)) => {
                let databases = ["ZONER_DB", "LOGINS_DB"].map(|shipped| (shipped, database.clone()));
                line(format_args!("{}", snowflake_warehouse("test", *address, &databases)));
            }
        }
        if let Some((address, prefix)) = &self.also_snowflake {
            line(format_args!("[target.snowflake.lake]\nurl = \"lake\""));
            let databases = DATABASES.map(|shipped| (shipped, format!("{prefix}_{shipped}")));
            line(format_args!("{}", snowflake_warehouse("snowflake", *address, &databases)));
        }
        text
    }
}

impl Project {
    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The lake's folder, when it is local.
    #[must_use]
    pub fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    /// The local warehouse's folder.
    #[must_use]
    pub fn warehouse(&self) -> PathBuf {
        self.folder.path().join("warehouse")
    }

    /// The binary, called with this project.
    #[must_use]
    pub fn tidemill(&self) -> Tidemill {
        Tidemill::new(self.folder.path())
    }
}

/// Settings of a target that publishes to the emulator.
fn snowflake_warehouse(target: &str, address: Address, databases: &[(&str, String)]) -> String {
    let renamed: Vec<String> = databases.iter().map(|(shipped, own)| format!("{shipped} = \"{own}\"\n")).collect();
    let renamed = renamed.concat();
    format!(
        "[target.{target}.warehouse]\ntype = \"snowflake\"\naccount = \"TMORG-TMTEST\"\nuser = \"LOADER\"\n\
         password = \"any\"\nurl = \"{}\"\n[target.{target}.warehouse.databases]\n{renamed}\
         [target.{target}.warehouse.session_parameters]\n{NOT_EMULATED}",
        address.url()
    )
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("failed to read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn rename_topic(folder: &Path, shipped: &str, own: &str) -> Result<()> {
    let mut renamed = 0;
    let mut folders = vec![folder.join("models")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with("__sources.yml") {
                let text = fs::read_to_string(&path)?;
                if text.contains(shipped) {
                    fs::write(&path, text.replace(shipped, own))?;
                    renamed += 1;
                }
            }
        }
    }
    ensure!(renamed == 1, "{renamed} contracts name the topic {shipped}");
    Ok(())
}
