//! dbt's artifacts: what other tools read about a project and its runs.
//!
//! | file | schema | says |
//! | --- | --- | --- |
//! | `manifest.json` | v12 | what the project is: nodes, configurations, edges |
//! | `run_results.json` | v6 | how the nodes of the last command ended |
//! | `catalog.json` | v1 | which columns and how many rows the lake holds |
//! | `sources.json` | v3 | how fresh sources were |
//! | `column_lineage.json` | ours, v1 | which columns of other nodes each column of a model is computed from |
//!
//! Each is one object that is built from plain data and written whole: a reader sees the old file or the new one.

mod catalog;
mod freshness;
mod ids;
mod lineage;
mod manifest;
mod nodes;
mod results;
mod state;
mod template_graph;

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use tidemill_project::clock::Micros;
use tidemill_project::{Diagnostic, ErrorCode, ErrorKind};

pub use freshness::{FreshnessResult, FreshnessStatus};
pub use lineage::column_lineage;
pub use results::{PreviousRun, previous_args, run_results};
pub use state::StateDirs;
pub(crate) use template_graph::template_graph;

use crate::error::codes;

/// dbt's release whose documented behaviour and schemas these follow; tools compare it with what they know.
const DBT_VERSION: &str = "1.11.0";

/// The names of the files.
pub mod names {
    /// The project.
    pub const MANIFEST: &str = "manifest.json";
    /// The last run.
    pub const RUN_RESULTS: &str = "run_results.json";
    /// The lake.
    pub const CATALOG: &str = "catalog.json";
    /// Freshness.
    pub const SOURCES: &str = "sources.json";
    /// Where columns come from.
    pub const COLUMN_LINEAGE: &str = "column_lineage.json";
}

/// The command that artifacts speak of.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The run's id.
    pub id: String,
    /// When it began, microseconds UTC.
    pub started_at_us: Micros,
    /// When the artifact is written, microseconds UTC.
    pub now_us: Micros,
}

impl Invocation {
    fn metadata(&self, schema: &str) -> serde_json::Map<String, Json> {
        let metadata = json!({
            "dbt_schema_version": format!("https://schemas.getdbt.com/dbt/{schema}.json"),
            "dbt_version": DBT_VERSION,
            "generated_at": instant(self.now_us),
            "invocation_id": self.id,
            "invocation_started_at": instant(self.started_at_us),
            "env": {},
        });
        match metadata {
            Json::Object(metadata) => metadata,
            _ => serde_json::Map::new(),
        }
    }
}

/// An instant as artifacts write it: RFC 3339, microseconds, UTC.
fn instant(at_us: Micros) -> String {
    chrono::DateTime::from_timestamp_micros(at_us)
        .map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
        .unwrap_or_default()
}

/// An artifact that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ArtifactError(#[from] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("failed to write an artifact, path=`{path}`")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("failed to read an artifact, path=`{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("artifact is not JSON, path=`{path}`")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("artifact is not there, path=`{path}`")]
    Missing { path: PathBuf },
    #[error("the folder of earlier artifacts is not there, state=`{path}`")]
    MissingDir { path: PathBuf },
}

impl Diagnostic for ArtifactError {
    fn kind(&self) -> ErrorKind {
        match self.0 {
            Cause::Write { .. } | Cause::Read { .. } => ErrorKind::Invalid,
            Cause::Json { .. } | Cause::Missing { .. } | Cause::MissingDir { .. } => ErrorKind::Configuration,
        }
    }

    fn code(&self) -> Option<ErrorCode> {
        match self.0 {
            Cause::Missing { .. } | Cause::MissingDir { .. } => Some(ErrorCode(codes::NO_STATE)),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match &self.0 {
            Cause::Missing { path } if path.ends_with(names::RUN_RESULTS) => {
                Some("run `tidemill build` first, or name another folder with `--state DIR`".to_owned())
            }
            Cause::Missing { path } if path.ends_with(names::MANIFEST) => Some(
                "run `tidemill parse` on what to compare with, or name another folder with `--state DIR`".to_owned(),
            ),
            Cause::Missing { .. } | Cause::MissingDir { .. } => {
                Some("name a folder that holds artifacts of an earlier run".to_owned())
            }
            Cause::Json { .. } => Some("write it again: `tidemill parse`".to_owned()),
            _ => None,
        }
    }
}

/// Writes an artifact, whole or not at all. Folders above it are made.
///
/// # Errors
/// The file system.
pub fn write(dir: &Path, name: &str, artifact: &Json) -> Result<(), ArtifactError> {
    write_bytes(dir, name, &bytes(artifact))
}

/// An artifact as its file holds it.
///
/// # Panics
/// Never: artifacts are maps with text keys, which always serialize.
#[must_use]
pub fn bytes(artifact: &Json) -> Vec<u8> {
    serde_json::to_vec(artifact).expect("artifacts are maps with text keys")
}

/// Writes any file of the target folder, whole or not at all.
///
/// # Errors
/// The file system.
pub fn write_bytes(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), ArtifactError> {
    let path = dir.join(name);
    let fault = |source| Cause::Write { path: path.clone(), source };
    // Two commands may write side by side; the name of each one's draft is its own.
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    match std::fs::write(&draft, bytes) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path.parent().unwrap_or(dir)).map_err(fault)?;
            std::fs::write(&draft, bytes).map_err(fault)?;
        }
        written => written.map_err(fault)?,
    }
    std::fs::rename(&draft, &path).map_err(fault)?;
    Ok(())
}

/// Reads an artifact of an earlier run; null when there is none.
///
/// # Errors
/// The file is there and is no artifact.
pub fn read_optional(dir: &Path, name: &str) -> Result<Json, ArtifactError> {
    match read(dir, name) {
        Err(ArtifactError(Cause::Missing { .. })) => Ok(Json::Null),
        other => other,
    }
}

/// Reads an artifact of an earlier run.
fn read(dir: &Path, name: &str) -> Result<Json, ArtifactError> {
    let path = dir.join(name);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Err(Cause::Missing { path }.into()),
        Err(source) => return Err(Cause::Read { path, source }.into()),
    };
    Ok(serde_json::from_slice(&bytes).map_err(|source| Cause::Json { path, source })?)
}

#[cfg(test)]
mod tests;
