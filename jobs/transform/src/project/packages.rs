//! Packages: projects whose models and macros a project takes in.
//!
//! `packages.yml` (or `dependencies.yml`) names them. Those with `local:` are read where they lie; all others must have been
//! installed into `packages-install-path`, as `dbt deps` does. Nothing is downloaded. `dbt_utils` and `dbt_date`
//! come with the engine.

use std::path::{Path, PathBuf};

use super::files::read_text;
use super::settings::Settings;
use super::yaml::{Node, Reader};
use crate::error::codes;

/// Packages whose macros come with the engine, so that nobody misses them.
const SHIPPED: [&str; 4] = ["dbt_utils", "dbt-utils", "dbt_date", "dbt-date"];

/// The packages of a project, those of packages among them, each once. A `local:` folder that is not there is a fault; a
/// package that was not installed is a note, as its absence shows only where it is used.
pub(super) fn find(reader: &mut Reader, root: &Path, settings: &Settings) -> Vec<(PathBuf, Settings)> {
    let mut found: Vec<(PathBuf, Settings)> = Vec::new();
    let mut waiting = declared(reader, root, &settings.packages_path);
    waiting.extend(installed(&settings.packages_path));
    while !waiting.is_empty() {
        let dir = waiting.remove(0);
        let known = |other: &Path| std::fs::canonicalize(other).ok() == std::fs::canonicalize(&dir).ok();
        if known(root) || found.iter().any(|(other, _)| known(other)) {
            continue;
        }
        match Settings::read(reader, &dir) {
            Ok(package) => {
                if package.name == settings.name || found.iter().any(|(_, other)| other.name == package.name) {
                    continue;
                }
                waiting.extend(declared(reader, &dir, &settings.packages_path));
                found.push((dir, package));
            }
            Err(fault) => reader.faults.push(fault),
        }
    }
    found
}

fn declared(reader: &mut Reader, dir: &Path, packages_path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in ["packages.yml", "dependencies.yml"] {
        let path = dir.join(file);
        if !path.is_file() {
            continue;
        }
        let Some(text) = read_text(reader, &path) else { continue };
        let root = match Node::parse(&path, &text) {
            Ok(root) => root,
            Err(fault) => {
                reader.faults.push(fault);
                continue;
            }
        };
        for item in root.get("packages").map(Node::items).unwrap_or_default() {
            if let Some(local) = item.get("local") {
                let Some(text) = reader.text(local, "local") else { continue };
                let place = dir.join(&text);
                if place.join("dbt_project.yml").is_file() {
                    found.push(place);
                } else {
                    reader.fault_hint(
                        &local.place,
                        codes::PACKAGE,
                        format!("package is not there, local=`{text}`"),
                        "it must be a folder with a dbt_project.yml, relative to this file's folder",
                    );
                }
                continue;
            }
            let named = ["package", "git", "tarball", "private"].iter().find_map(|key| item.get(key));
            let Some(named) = named.and_then(Node::scalar_text) else { continue };
            let short = named.rsplit('/').next().unwrap_or_default().trim_end_matches(".git").to_owned();
            let is_there = packages_path.join(&short).is_dir() || packages_path.join(short.replace('-', "_")).is_dir();
            if !is_there && !SHIPPED.contains(&short.as_str()) {
                reader.note(
                    &item.place,
                    format!("package is not installed, package=`{named}`; install it into `{}`, or name a folder: `local: …`", packages_path.display()),
                );
            }
        }
    }
    found
}

fn installed(packages_path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(packages_path) else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.join("dbt_project.yml").is_file()).collect();
    found.sort();
    found
}
