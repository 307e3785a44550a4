//! `tidemill clean`: what commands leave behind, and nothing else.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;
use tidemill_transform::project::build_folders;

use super::context::shown;
use super::workspace::default_target;
use crate::args::{CleanArgs, GlobalArgs};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::report::UsageError;
use crate::settings;

/// Deletes the target folder and `clean-targets`, all of them inside of the project.
pub(crate) fn run(global: &GlobalArgs, args: &CleanArgs, printer: Printer) -> anyhow::Result<Exit> {
    let settings = settings::load(global)?;
    let root = &settings.models_dir;
    let folders = build_folders(root);
    let mut doomed = vec![global.target_path.clone().unwrap_or_else(|| default_target(root))];
    doomed.extend(folders.clean.iter().cloned());
    doomed.sort();
    doomed.dedup();
    for dir in &doomed {
        check(dir, root, &folders.sources)?;
    }
    doomed.retain(|dir| dir.exists());
    let told: Vec<String> = doomed.iter().map(|dir| shown(dir)).collect();
    for (dir, name) in doomed.iter().zip(&told) {
        if !args.dry_run {
            std::fs::remove_dir_all(dir).with_context(|| format!("failed to delete a folder, path=`{name}`"))?;
        }
    }
    let verb = if args.dry_run { "would delete" } else { "deleted" };
    let lines: Vec<String> = told.iter().map(|name| format!("{verb} {name}\n")).collect();
    let text = if lines.is_empty() { "nothing to delete\n".to_owned() } else { lines.concat() };
    printer.result(&json!({ "deleted": told, "dry_run": args.dry_run }), &text);
    Ok(Exit::Done)
}

/// A folder outside of the project, one that holds the project, or one that holds or lies in files that people wrote is not
/// for this command.
fn check(dir: &Path, root: &Path, sources: &[PathBuf]) -> anyhow::Result<()> {
    let (dir, root) = (resolved(dir), resolved(root));
    let refuse = |why: &str| {
        let message = format!("will not delete {}: {why}; delete it by hand", dir.display());
        Err(UsageError { message }.into())
    };
    if !dir.starts_with(&root) || dir == root {
        return refuse("it is not inside of the project");
    }
    for source in sources.iter().map(|source| resolved(source)) {
        if source.starts_with(&dir) || dir.starts_with(&source) {
            return refuse("it holds files of the project");
        }
    }
    Ok(())
}

/// The path without links and `..`; of what is not there, as far as it is.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => resolved(parent).join(name),
        _ => path.to_path_buf(),
    }
}
