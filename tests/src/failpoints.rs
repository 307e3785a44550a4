//! The crash points that the product names, read out of its source: a new one is covered by the kill tests at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::installed;

/// All points whose name begins with `prefix`, e.g. `ingest.`, sorted.
///
/// # Errors
/// When there is none: the kill test would prove nothing.
pub fn named(prefix: &str) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    collect(&installed::repository().join("jobs"), &mut found)?;
    let found: Vec<String> = found.into_iter().filter(|name| name.starts_with(prefix)).collect();
    ensure!(!found.is_empty(), "no crash point is named {prefix}*");
    Ok(found)
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            for call in text.split("crash::point(\"").skip(1) {
                found.extend(call.split_once('"').map(|(name, _)| name.to_owned()));
            }
        }
    }
    Ok(())
}
