//! Folders that `dbt_project.yml` names and that commands write to or must leave alone. Read without the rest of the project,
//! so that `clean` works on a project that does not parse.

use std::path::{Path, PathBuf};

use super::yaml::{Node, Reader};

/// Folders of a project, below its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildFolders {
    /// `target-path`; `None` when the file does not say.
    pub target: Option<PathBuf>,
    /// `clean-targets`.
    pub clean: Vec<PathBuf>,
    /// Where people's files lie.
    pub sources: Vec<PathBuf>,
}

/// Reads the folders of a project; what cannot be read counts as not said.
#[must_use]
pub fn build_folders(root: &Path) -> BuildFolders {
    let path = root.join("dbt_project.yml");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let parsed = Node::parse(&path, &text).ok();
    let mut reader = Reader::default();
    let mut texts = |key: &str| {
        let node = parsed.as_ref().and_then(|root| root.get(key))?;
        reader.texts(node, key)
    };
    let mut folders = BuildFolders {
        target: texts("target-path").and_then(|paths| paths.first().map(|path| root.join(path))),
        clean: texts("clean-targets").unwrap_or_default().iter().map(|path| root.join(path)).collect(),
        sources: Vec::new(),
    };
    for (key, default) in [
        ("model-paths", "models"),
        ("seed-paths", "seeds"),
        ("test-paths", "tests"),
        ("macro-paths", "macros"),
        ("snapshot-paths", "snapshots"),
    ] {
        let paths = texts(key).unwrap_or_else(|| vec![default.to_owned()]);
        folders.sources.extend(paths.iter().map(|path| root.join(path)));
    }
    folders.sources.push(path);
    folders
}
