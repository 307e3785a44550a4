//! `{% docs %}` blocks of Markdown files, and descriptions that name them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::files::{files, read_text};
use super::settings::Settings;
use super::yaml::Reader;

/// `{{ doc('name') }}`, also with a package in front.
static CALL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\{\{-?\s*doc\(\s*(?:['"][^'"]*['"]\s*,\s*)?['"]([^'"]+)['"]\s*\)\s*-?\}\}"#)
        .expect("the expression is a constant")
});

/// All blocks below a project's docs paths, by name.
pub(super) fn read(reader: &mut Reader, settings: &Settings) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for dir in &settings.docs_paths {
        for path in files(reader, dir, &["md"]) {
            let Some(text) = read_text(reader, &path) else { continue };
            let mut open: Option<(String, usize)> = None;
            for tag in crate::render::tags(&text) {
                match tag.word {
                    "docs" => {
                        let name = tag.rest.trim().trim_end_matches("%}").trim_end_matches('-').trim();
                        open = Some((name.to_owned(), tag.end));
                    }
                    "enddocs" => {
                        if let Some((name, start)) = open.take() {
                            found.insert(name, text[start..tag.start].trim().to_owned());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    found
}

/// A description with the blocks that it names filled in; the name of one that is not there comes back.
pub(super) fn fill(description: &str, docs: &BTreeMap<String, String>) -> Result<String, String> {
    if !description.contains("{{") {
        return Ok(description.to_owned());
    }
    let mut missing = None;
    let filled = CALL.replace_all(description, |found: &regex::Captures<'_>| {
        let text = docs.get(&found[1]).cloned();
        if text.is_none() {
            missing.get_or_insert_with(|| found[1].to_owned());
        }
        text.unwrap_or_default()
    });
    let filled = filled.into_owned();
    match missing {
        Some(name) => Err(name),
        None => Ok(filled),
    }
}
