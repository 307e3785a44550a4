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
    let ignored = ignored(reader, dir);
    let hidden = |entry: &walkdir::DirEntry| hides(ignored.as_ref(), entry.path());
    for entry in
        WalkDir::new(dir).follow_links(true).sort_by_file_name().into_iter().filter_entry(|entry| !hidden(entry))
    {
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

/// What the nearest `.tidemillignore` or `.dbtignore` upwards hides: patterns of paths relative to its folder.
struct Ignored {
    dir: PathBuf,
    patterns: Vec<(glob::Pattern, bool)>,
}

/// Reads it. A line is a glob as in `.gitignore`: without a slash it hides names anywhere, `#` begins a comment, `!` shows
/// again what a line before hides.
fn ignored(reader: &mut Reader, dir: &Path) -> Option<Ignored> {
    let (home, path) = dir.ancestors().take(MAX_ANCESTORS).find_map(|folder| {
        [".tidemillignore", ".dbtignore"]
            .iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_file())
            .map(|path| (folder, path))
    })?;
    let text = read_text(reader, &path)?;
    let mut patterns = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (shows, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
        let bare = line.trim_end_matches('/').trim_start_matches('/');
        let anywhere = !line.trim_end_matches('/').contains('/');
        let forms = if anywhere {
            vec![format!("**/{bare}"), format!("**/{bare}/**")]
        } else {
            vec![bare.to_owned(), format!("{bare}/**")]
        };
        for form in forms {
            match glob::Pattern::new(&form) {
                Ok(pattern) => patterns.push((pattern, shows)),
                Err(error) => {
                    let place = Place { line: index + 1, ..Place::start_of(&path) };
                    reader.fault(
                        &place,
                        codes::UNKNOWN_VALUE,
                        format!("pattern cannot be read, pattern=`{line}`, because=`{}`", error.msg),
                    );
                }
            }
        }
    }
    Some(Ignored { dir: home.to_path_buf(), patterns })
}

/// How far up from a folder of models its project's ignore file may lie.
const MAX_ANCESTORS: usize = 6;

fn hides(ignored: Option<&Ignored>, path: &Path) -> bool {
    let Some(Ignored { dir, patterns }) = ignored else { return false };
    let Ok(relative) = path.strip_prefix(dir) else { return false };
    let text = relative.to_string_lossy();
    patterns.iter().fold(false, |hidden, (pattern, shows)| if pattern.matches(&text) { !shows } else { hidden })
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
