//! From `tidemill.toml`, the environment and the command line to [`Settings`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::reference::settings_keys;
use super::sections::{read_ingest, read_maintenance, read_transform};
use super::target::{Target, TargetContext, implicit_target, read_target};
use super::{IngestSettings, MaintenanceSettings, Settings, TransformSettings, store_url, variables};
use crate::document::{Data, FileError, Node, Place, Reader, codes, parse_toml, wrap_file_error};
use crate::error::{Fault, nearest};
use crate::locate::{MARKERS, find_project_dir};

wrap_file_error!(
    /// The settings are not usable. Carries every fault of the file.
    ConfigError
);

/// What an invocation says about its settings. The environment is passed in: nothing here asks the process.
#[derive(Clone, Default)]
pub struct SettingsRequest {
    /// `--project-dir`; else the nearest folder upwards from `cwd` that holds a project.
    pub project_dir: Option<PathBuf>,
    /// `--lake`: a path, relative to `cwd`, or a URL that replaces the target's lake.
    pub lake: Option<String>,
    /// `--target`; else `TIDEMILL_TARGET`, else the file's `default_target`.
    pub target: Option<String>,
    /// The process environment.
    pub env: BTreeMap<String, String>,
    /// The folder that the process was started in, absolute.
    pub cwd: PathBuf,
}

impl fmt::Debug for SettingsRequest {
    /// Leaves the environment out: it holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettingsRequest")
            .field("project_dir", &self.project_dir)
            .field("lake", &self.lake)
            .field("target", &self.target)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

/// Finds the project and reads its settings for one target.
///
/// Relative paths of the file are relative to the project. Files that secrets name are read, for the chosen target only.
///
/// # Errors
/// There is no project, or anything in its `tidemill.toml` is wrong, other targets included; all faults are reported
/// together. No text of an error holds a secret.
pub fn load(request: &SettingsRequest) -> Result<Settings, ConfigError> {
    let project_dir = find_project(request)?;
    let path = project_dir.join("tidemill.toml");
    let shown = path.strip_prefix(&request.cwd).unwrap_or(&path);
    let mut root = read_root(&path, shown)?;
    let mut reader = Reader::new(shown);
    let settings = read_settings(&mut reader, request, &project_dir, &mut root);
    let faults = reader.into_faults();
    match settings {
        Some(settings) if faults.is_empty() => Ok(settings),
        _ => Err(FileError::Faults(faults).into()),
    }
}

fn find_project(request: &SettingsRequest) -> Result<PathBuf, FileError> {
    let (searched, found) = match &request.project_dir {
        Some(dir) => {
            let dir = request.cwd.join(dir);
            let found = MARKERS.iter().any(|marker| dir.join(marker).is_file()).then(|| dir.clone());
            (dir, found)
        }
        None => (request.cwd.clone(), find_project_dir(&request.cwd)),
    };
    let upwards = if request.project_dir.is_some() { "" } else { " or above it" };
    found.map(|dir| store_url::normalize(&dir)).ok_or_else(|| {
        FileError::Faults(vec![
            Fault::new(format!("no project was found, folder=`{}`", searched.display())).code(codes::NO_PROJECT).hint(
                format!(
                    "a project has a {} in the folder{upwards}; make one with `tidemill init DIR`",
                    MARKERS.join(" or a ")
                ),
            ),
        ])
    })
}

fn read_root(path: &Path, shown: &Path) -> Result<Node, FileError> {
    if !path.is_file() {
        return Ok(Node { place: Place::default(), data: Data::Map(Vec::new()) });
    }
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Read { path: shown.to_path_buf(), source })?;
    parse_toml(shown, &text).map_err(|fault| FileError::Faults(vec![fault]))
}

fn read_settings(
    reader: &mut Reader<'_>,
    request: &SettingsRequest,
    project_dir: &Path,
    root: &mut Node,
) -> Option<Settings> {
    let chosen = resolve_variables(reader, request, root);
    let section = reader.section("", root, &settings_keys(""))?;
    let name = section.get("name").and_then(|node| reader.text("name", node)).unwrap_or_else(|| {
        project_dir.file_name().map_or_else(|| "project".to_owned(), |name| name.to_string_lossy().into_owned())
    });
    let shared = Shared {
        ingest: match section.get("ingest") {
            Some(node) => read_ingest(reader, "ingest", node, IngestSettings::default()),
            None => IngestSettings::default(),
        },
        transform: match section.get("transform") {
            Some(node) => read_transform(reader, "transform", node, TransformSettings::default()),
            None => TransformSettings::default(),
        },
        maintenance: match section.get("maintenance") {
            Some(node) => read_maintenance(reader, "maintenance", node, MaintenanceSettings::default()),
            None => MaintenanceSettings::default(),
        },
    };
    let models_dir = read_models_dir(reader, project_dir, section.get("models_dir"));

    let mut found = None;
    for (key, node) in section.get("target").map(Node::entries).unwrap_or_default() {
        let is_chosen = chosen.as_deref() == Some(key.name.as_str());
        let context =
            TargetContext { request, project_dir, project_name: &name, name: &key.name, is_chosen, shared: &shared };
        let target = read_target(reader, &context, node);
        if is_chosen {
            found = target;
        }
    }
    let chosen = chosen?;
    let has_targets = section.get("target").is_some_and(|targets| !targets.entries().is_empty());
    let target: Target = if has_targets {
        found?
    } else {
        let context = TargetContext {
            request,
            project_dir,
            project_name: &name,
            name: &chosen,
            is_chosen: true,
            shared: &shared,
        };
        implicit_target(reader, &context)?
    };
    Some(Settings {
        name,
        project_dir: project_dir.to_path_buf(),
        models_dir,
        target: chosen,
        kafka: target.kafka,
        lake: target.lake,
        warehouse: target.warehouse,
        collect: target.collect,
        registry: target.registry,
        sinks: target.sinks,
        ingest: target.ingest,
        transform: target.transform,
        maintenance: target.maintenance,
    })
}

/// The project-wide sections, which a target may override key by key.
pub(super) struct Shared {
    pub(super) ingest: IngestSettings,
    pub(super) transform: TransformSettings,
    pub(super) maintenance: MaintenanceSettings,
}

/// Resolves variables everywhere but in the targets that were not chosen, and says which one was. `None` after a fault.
fn resolve_variables(reader: &mut Reader<'_>, request: &SettingsRequest, root: &mut Node) -> Option<String> {
    let Data::Map(entries) = &mut root.data else { return None };
    for (_, node) in entries.iter_mut().filter(|(key, _)| key.name != "target") {
        variables::resolve(reader, &request.env, node);
    }
    if let Some((_, targets)) = entries.iter().find(|(key, _)| key.name == "target")
        && !matches!(targets.data, Data::Map(_))
    {
        reader.wrong_type("target", targets, "table");
    }
    let chosen = choose_target(reader, request, root);
    let Data::Map(entries) = &mut root.data else { return None };
    for (_, targets) in entries.iter_mut().filter(|(key, _)| key.name == "target") {
        let Data::Map(targets) = &mut targets.data else { continue };
        for (key, target) in targets {
            if chosen.as_deref() == Some(key.name.as_str()) {
                variables::resolve(reader, &request.env, target);
            } else {
                variables::leave_open(target);
            }
        }
    }
    chosen
}

fn choose_target(reader: &mut Reader<'_>, request: &SettingsRequest, root: &Node) -> Option<String> {
    let names: Vec<&str> =
        root.get("target").map(Node::entries).unwrap_or_default().iter().map(|(key, _)| key.name.as_str()).collect();
    let known = if names.is_empty() { vec!["local"] } else { names };
    let from_env = request.env.get("TIDEMILL_TARGET").filter(|name| !name.is_empty());
    let default = root.get("default_target");
    let (wanted, place) = match (request.target.as_ref().or(from_env), default) {
        (Some(wanted), _) => (wanted.clone(), None),
        (None, Some(node)) => (reader.text("default_target", node)?, Some(node.place)),
        (None, None) => {
            let implied = match known.as_slice() {
                [only] => Some(*only),
                _ => known.iter().copied().find(|name| *name == "local"),
            };
            if implied.is_none() {
                let message = "no target was chosen, and the file has several";
                let hint = format!("add `default_target`, or choose: --target {}", known.join(" | "));
                reader.push(Fault::new(message).code(codes::UNKNOWN_TARGET).hint(hint));
            }
            return implied.map(str::to_owned);
        }
    };
    if known.contains(&wanted.as_str()) {
        return Some(wanted);
    }
    let hint = match nearest(&wanted, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the project has: {}", known.join(", ")),
    };
    let mut fault =
        Fault::new(format!("target does not exist, target=`{wanted}`")).code(codes::UNKNOWN_TARGET).hint(hint);
    if let Some(place) = place {
        fault = fault.at(reader.location(place));
    }
    reader.push(fault);
    None
}

fn read_models_dir(reader: &mut Reader<'_>, project_dir: &Path, node: Option<&Node>) -> PathBuf {
    let Some(node) = node else {
        let usual = project_dir.join("dbt-like-models");
        return if usual.is_dir() { usual } else { project_dir.to_path_buf() };
    };
    let Some(text) = reader.text("models_dir", node) else { return project_dir.to_path_buf() };
    let dir = store_url::normalize(&project_dir.join(&text));
    if !dir.is_dir() {
        reader.bad_value("models_dir", node, "the folder does not exist; it is the one with `dbt_project.yml`");
    }
    dir
}
