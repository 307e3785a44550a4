//! Reads `dbt_project.yml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use tidemill_project::Fault;
use tidemill_project::error::nearest;

use super::configure;
use super::yaml::{Data, Entry, Node, Place, Reader};
use crate::error::codes;

const KEYS: [&str; 41] = [
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
    "dbt-cloud",
    "metrics",
    "semantic-models",
    "saved-queries",
    "query-comment",
    "packages",
    "name-resolution",
];

/// `dbt_project.yml`, its paths resolved.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) model_paths: Vec<PathBuf>,
    pub(super) seed_paths: Vec<PathBuf>,
    pub(super) test_paths: Vec<PathBuf>,
    pub(super) macro_paths: Vec<PathBuf>,
    pub(super) snapshot_paths: Vec<PathBuf>,
    /// Folders whose Markdown may hold docs blocks.
    pub(super) docs_paths: Vec<PathBuf>,
    /// `packages-install-path`.
    pub(super) packages_path: PathBuf,
    pub(super) dispatch: BTreeMap<String, Vec<String>>,
    pub(super) on_run_start: Vec<String>,
    pub(super) on_run_end: Vec<String>,
    /// Global variables under those scoped to the project.
    pub(super) vars: Map<String, Json>,
    root: Node,
}

/// What a folder's configs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Models,
    Seeds,
    Snapshots,
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
        reader.check_open_keys(&root, "dbt_project.yml", &KEYS);
        let name = root.get("name").and_then(|node| reader.text(node, "name"));
        let name = name.unwrap_or_else(|| {
            dir.file_name().map_or_else(|| "project".to_owned(), |name| identifier(&name.to_string_lossy()))
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
        let snapshot_paths = paths(["snapshot-paths", "snapshot-paths"], "snapshots");
        let analysis_paths = paths(["analysis-paths", "analysis-paths"], "analyses");
        let mut docs_paths =
            if root.get("docs-paths").is_some() { paths(["docs-paths", "docs-paths"], "docs") } else { Vec::new() };
        if docs_paths.is_empty() {
            let all = [&model_paths, &seed_paths, &test_paths, &macro_paths, &snapshot_paths, &analysis_paths];
            docs_paths.extend(all.into_iter().flatten().cloned());
        }
        let packages_path = paths(["packages-install-path", "packages-install-path"], "dbt_packages");
        let packages_path = packages_path.into_iter().next().unwrap_or_else(|| dir.join("dbt_packages"));
        let mut hooks = |key: &str| root.get(key).and_then(|node| reader.texts(node, key)).unwrap_or_default();
        let (on_run_start, on_run_end) = (hooks("on-run-start"), hooks("on-run-end"));
        let mut dispatch = BTreeMap::new();
        for item in root.get("dispatch").map(Node::items).unwrap_or_default() {
            let order = item.get("search_order").and_then(|order| reader.texts(order, "search_order"));
            if let (Some(namespace), Some(order)) = (item.get("macro_namespace").and_then(Node::scalar_text), order) {
                dispatch.insert(namespace, order);
            }
        }
        let mut vars = Map::new();
        if let Some(node) = root.get("vars") {
            let declared = reader.object(node, "vars").unwrap_or_default();
            let own = declared.get(&name).and_then(Json::as_object).cloned().unwrap_or_default();
            vars.extend(declared.into_iter().filter(|(key, _)| *key != name));
            vars.extend(own);
        }
        for key in ["models", "seeds", "snapshots", "tests", "data_tests"] {
            check_package_names(reader, root.get(key), &name);
        }
        Ok(Self {
            name,
            model_paths,
            seed_paths,
            test_paths,
            macro_paths,
            snapshot_paths,
            docs_paths,
            packages_path,
            dispatch,
            on_run_start,
            on_run_end,
            vars,
            root,
        })
    }

    /// The texts of the folder configs, to have their Jinja resolved.
    pub(super) fn change_texts(&mut self, change: &mut impl FnMut(&Place, &str) -> Option<Json>) {
        if let Data::Map(entries) = &mut self.root.data {
            let configs = ["models", "seeds", "snapshots", "tests", "data_tests", "sources"];
            for entry in entries.iter_mut().filter(|entry| configs.contains(&entry.key.as_str())) {
                change_configs(&mut entry.value, change);
            }
        }
    }

    /// The merged folder configs for a file of a package: `inner` are its folders below the model path and, last, its name.
    pub(super) fn folder_config(&self, kind: Kind, package: &str, inner: &[&str]) -> Vec<Entry> {
        let keys: &[&str] = match kind {
            Kind::Models => &["models"],
            Kind::Seeds => &["seeds"],
            Kind::Snapshots => &["snapshots"],
            Kind::Tests => &["tests", "data_tests"],
        };
        let mut merged = Vec::new();
        for root in keys.iter().filter_map(|key| self.root.get(key)) {
            let mut node = Some(root);
            let mut folders = std::iter::once(package).chain(inner.iter().copied());
            while let Some(level) = node {
                configure::merge(&mut merged, &own_configs(level, kind));
                node = folders.next().and_then(|folder| level.get(folder));
            }
        }
        merged
    }
}

/// Hooks keep their Jinja: it is rendered when they run.
pub(super) fn change_configs(node: &mut Node, change: &mut impl FnMut(&Place, &str) -> Option<Json>) {
    let Data::Map(entries) = &mut node.data else { return node.change_texts(change) };
    for entry in entries {
        let key = entry.key.trim_start_matches('+');
        if !matches!(key, "pre_hook" | "post_hook" | "pre-hook" | "post-hook") {
            change_configs(&mut entry.value, change);
        }
    }
}

/// A folder's name as a name that Jinja can call macros by: letters, digits and underscores, no digit first.
fn identifier(name: &str) -> String {
    let mut text: String =
        name.chars().map(|letter| if letter.is_alphanumeric() || letter == '_' { letter } else { '_' }).collect();
    if text.starts_with(|letter: char| letter.is_numeric()) {
        text.insert(0, '_');
    }
    text
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
        Kind::Models | Kind::Seeds | Kind::Snapshots => configure::is_known(key),
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
