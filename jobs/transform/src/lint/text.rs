//! SQL text without what is no SQL, and places in it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tidemill_project::Location;

use super::Rule;
use crate::project::Model;

/// The text with comments, quoted text and Jinja replaced by spaces; every other byte stays at its place.
pub(super) fn blanked(text: &str) -> String {
    let pairs = [("{#", "#}"), ("{{", "}}"), ("{%", "%}"), ("/*", "*/"), ("--", "\n"), ("'", "'"), ("\"", "\"")];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let opened = pairs.iter().find(|(open, _)| rest.starts_with(open));
        let length = match opened {
            Some((open, close)) => {
                rest[open.len()..].find(close).map_or(rest.len(), |at| open.len() + at + close.len())
            }
            None => rest.chars().next().map_or(1, char::len_utf8),
        };
        let part = &rest[..length];
        if opened.is_some() {
            // One space a byte, so that places stay; the ends of lines stay as well.
            out.extend(part.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else {
            out.push_str(part);
        }
        rest = &rest[length..];
    }
    out
}

/// The place of a byte of the text.
pub(super) fn location_at(path: &Path, text: &str, byte: usize) -> Location {
    let before = &text[..byte.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    Location::new(path, line, column)
}

/// Where a model's text first says a word; its start otherwise.
pub(super) fn place_of(model: &Model, word: &str) -> Location {
    model
        .raw_sql
        .find(word)
        .map_or_else(|| Location::new(&model.path, 1, 1), |byte| location_at(&model.path, &model.raw_sql, byte))
}

/// Which rules files switch off in a comment, each file read once.
#[derive(Debug, Default)]
pub(super) struct FileSwitches(HashMap<PathBuf, Vec<String>>);

impl FileSwitches {
    pub(super) fn is_off(&mut self, path: &Path, rule: Rule) -> bool {
        let words = self.0.entry(path.to_path_buf()).or_insert_with(|| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let switches =
                text.lines().filter_map(|line| line.split_once("lint: off").map(|(_, rest)| rest.to_owned()));
            switches
                .flat_map(|rest| rest.split([' ', ',', '#', '}', '*', '/']).map(str::to_owned).collect::<Vec<_>>())
                .filter(|word| !word.is_empty())
                .collect()
        });
        words.iter().any(|word| word.eq_ignore_ascii_case(rule.id) || word == rule.name)
    }
}
