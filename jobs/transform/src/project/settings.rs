//! Reads `dbt_project.yml`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use tidemill_project::Fault;
use tidemill_project::error::nearest;

use super::configure;
use super::yaml::{Data, Entry, Node, Place, Reader};
use crate::error::codes;

const KEYS: [&str; 34] = [
    "name",
    "version",
    "config-version",
    "profile",
    "model-paths",
    "source-paths",
    "seed-paths",
    "data-paths",
    "test-paths",
    "macro-paths",
    "snapshot-paths",
    "analysis-paths",
    "docs-paths",
    "asset-paths",
    "function-paths",
    "target-path",
    "log-path",
    "packages-install-path",
    "clean-targets",
    "require-dbt-version",
    "vars",
    "models",
    "seeds",
    "snapshots",
    "sources",
    "tests",
    "data_tests",
    "unit-tests",
    "exposures",
    "on-run-start",
    "on-run-end",
    "dispatch",
    "flags",
    "quoting",
];

/// `dbt_project.yml`, its paths resolved.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) model_paths: Vec<PathBuf>,
    pub(super) seed_paths: Vec<PathBuf>,
    pub(super) test_paths: Vec<PathBuf>,
    pub(super) macro_paths: Vec<PathBuf>,
    /// Global variables under those scoped to the project.
    pub(super) vars: Map<String, Json>,
    root: Node,
}

/// What a folder's configs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Models,
    Seeds,
    Tests,
}

impl Settings {
    /// Reads the file. A project without one has dbt's default paths.
    pub(super) fn read(reader: &mut Reader, dir: &Path) -> Result<Self, Fault> {
        let path = dir.join("dbt_project.yml");
        let root = if path.is_file() {
            let text = std::fs::read_to_string(&path).map_err(|error| {
                Fault::new(format!("failed to read a file, path=`{}`, because=`{error}`", path.display()))
            })?;
            Node::parse(&path, &text)?
        } else {
            Node { place: Place::start_of(&path), data: Data::Map(Vec::new()) }
        };
        reader.check_keys(&root, "dbt_project.yml", &KEYS);
        let name = root.get("name").and_then(|node| reader.text(node, "name"));
        let name = name.unwrap_or_else(|| {
            dir.file_name().map_or_else(|| "project".to_owned(), |name| name.to_string_lossy().into_owned())
        });
        let mut paths = |keys: [&str; 2], default: &str| -> Vec<PathBuf> {
            let node = keys.iter().find_map(|key| root.get(key));
            let texts = node.and_then(|node| reader.texts(node, keys[0])).unwrap_or_else(|| vec![default.to_owned()]);
            texts.into_iter().map(|text| dir.join(text)).collect()
        };
        let model_paths = paths(["model-paths", "source-paths"], "models");
        let seed_paths = paths(["seed-paths", "data-paths"], "seeds");
        let test_paths = paths(["test-paths", "test-paths"], "tests");
        let macro_paths = paths(["macro-paths", "macro-paths"], "macros");
        let mut vars = Map::new();
        if let Some(node) = root.get("vars") {
            let declared = reader.object(node, "vars").unwrap_or_default();
            let own = declared.get(&name).and_then(Json::as_object).cloned().unwrap_or_default();
            vars.extend(declared.into_iter().filter(|(key, _)| *key != name));
            vars.extend(own);
        }
        for key in ["models", "seeds", "tests", "data_tests"] {
            check_package_names(reader, root.get(key), &name);
        }
        Ok(Self { name, model_paths, seed_paths, test_paths, macro_paths, vars, root })
    }

    /// The texts of the folder configs, to have their Jinja resolved.
    pub(super) fn change_texts(&mut self, change: &mut impl FnMut(&Place, &str) -> Option<Json>) {
        if let Data::Map(entries) = &mut self.root.data {
            let configs = ["models", "seeds", "tests", "data_tests", "sources"];
            for entry in entries.iter_mut().filter(|entry| configs.contains(&entry.key.as_str())) {
                entry.value.change_texts(change);
            }
        }
    }

    /// The merged folder configs for a file: `inner` are its folders below the model path and, last, its name.
    pub(super) fn folder_config(&self, kind: Kind, inner: &[&str]) -> Vec<Entry> {
        let keys: &[&str] = match kind {
            Kind::Models => &["models"],
            Kind::Seeds => &["seeds"],
            Kind::Tests => &["tests", "data_tests"],
        };
        let mut merged = Vec::new();
        for root in keys.iter().filter_map(|key| self.root.get(key)) {
            let mut node = Some(root);
            let mut folders = std::iter::once(self.name.as_str()).chain(inner.iter().copied());
            while let Some(level) = node {
                configure::merge(&mut merged, &own_configs(level, kind));
                node = folders.next().and_then(|folder| level.get(folder));
            }
        }
        merged
    }
}

/// Folder configs below a name that is nearly the project's own would be passed over in silence.
fn check_package_names(reader: &mut Reader, configs: Option<&Node>, own: &str) {
    for entry in configs.map(Node::entries).unwrap_or_default() {
        let is_config = entry.key.starts_with('+') || configure::is_known(&entry.key);
        if entry.key != own && !is_config && nearest(&entry.key, [own]).is_some() {
            reader.fault_hint(
                &entry.key_place,
                codes::UNKNOWN_KEY,
                format!("configuration is for another project, name=`{}`", entry.key),
                format!("did you mean `{own}`?"),
            );
        }
    }
}

/// The configs that a level sets itself: keys with a `+`, and known ones without (dbt takes both unless it is a folder).
fn own_configs(level: &Node, kind: Kind) -> Vec<Entry> {
    let known = |key: &str| match kind {
        Kind::Models | Kind::Seeds => configure::is_known(key),
        Kind::Tests => configure::is_test_config_key(key),
    };
    level
        .entries()
        .iter()
        .filter(|entry| entry.key.starts_with('+') || (known(&entry.key) && !is_folder(&entry.value)))
        .cloned()
        .collect()
}

/// A mapping that holds `+` keys is a folder, whatever its name.
fn is_folder(node: &Node) -> bool {
    node.entries().iter().any(|entry| entry.key.starts_with('+'))
}
