//! Where files lie, and what their places say.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::yaml::{Place, Reader};
use crate::error::codes;

/// Where the file calls `config(`, for faults in what it says; its start otherwise.
pub(super) fn place_of_config(path: &Path, raw_sql: &str) -> Place {
    let mut place = Place::start_of(path);
    for (index, line) in raw_sql.lines().enumerate() {
        if let Some(byte) = line.find("config(") {
            place.line = index + 1;
            place.column = line[..byte].chars().count() + 1;
            break;
        }
    }
    place
}

pub(super) fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The folders between `dir` and the file, and the file's name without its ending.
pub(super) fn inner<'a>(dir: &Path, path: &'a Path) -> Vec<&'a str> {
    let relative = path.strip_prefix(dir).unwrap_or(path);
    let mut parts: Vec<&str> =
        relative.parent().into_iter().flat_map(Path::components).filter_map(|part| part.as_os_str().to_str()).collect();
    parts.extend(relative.file_stem().and_then(|stem| stem.to_str()));
    parts
}

/// Files below `dir` with one of the endings, by path; none when the folder is not there. What cannot be looked into is noted.
pub(super) fn files(reader: &mut Reader, dir: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if !dir.is_dir() {
        return found;
    }
    for entry in WalkDir::new(dir).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() => {
                let path = entry.into_path();
                if path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| endings.contains(&ending)) {
                    found.push(path);
                }
            }
            Ok(_) => {}
            Err(error) => {
                let place = Place::start_of(error.path().unwrap_or(dir));
                reader.fault(&place, codes::READ, format!("failed to look into a folder, because=`{error}`"));
            }
        }
    }
    found
}

pub(super) fn read_text(reader: &mut Reader, path: &Path) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            reader.fault(&Place::start_of(path), codes::READ, format!("failed to read a file, because=`{error}`"));
            None
        }
    }
}
