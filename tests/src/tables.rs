//! All tables of a warehouse with their types and rows, read by readers that share no code with ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::installed;
use crate::snowflake::Address;

/// Rows that are shown of a difference; more would not help a person.
const EXAMPLES: usize = 3;

/// A row's values as texts, in the order of the columns; each text stands for one value of the column's type.
pub type Row = Vec<Option<String>>;

/// A table: columns with Snowflake's names of types, and all rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableRows {
    /// Name and type.
    pub columns: Vec<(String, String)>,
    /// In no order.
    pub rows: Vec<Row>,
}

/// Tables by `SCHEMA.TABLE`.
pub type Tables = BTreeMap<String, TableRows>;

/// The tables of one database of the local warehouse.
///
/// # Errors
/// When the reader fails; with what it said.
pub fn of_local(database: &Path) -> Result<Tables> {
    let folder = database.to_str().context("a path is UTF-8")?;
    read(&installed::path_of("python")?, &["local", folder])
}

/// The tables of one database of the emulator, the loader's own left out.
///
/// # Errors
/// When the reader fails; with what it said.
pub fn of_snowflake(address: Address, database: &str) -> Result<Tables> {
    read(&installed::path_of("fakesnow")?, &["snowflake", &address.port.to_string(), database])
}

fn read(environment: &Path, arguments: &[&str]) -> Result<Tables> {
    let script: PathBuf = installed::repository().join("tests/python/table_rows.py");
    let output = Command::new(environment.join("bin/python"))
        .arg(script)
        .args(arguments)
        .output()
        .context("failed to start Python")?;
    ensure!(output.status.success(), "{arguments:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    let read: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(&output.stdout)?;
    read.into_iter()
        .map(|(name, mut table)| {
            let mut part = |part: &str| table.remove(part).with_context(|| format!("{name} has no {part}"));
            let (columns, rows) = (part("columns")?, part("rows")?);
            Ok((name, TableRows { columns: serde_json::from_value(columns)?, rows: serde_json::from_value(rows)? }))
        })
        .collect()
}

impl TableRows {
    /// What differs from the local table, for a person; nothing when both have the same columns, types and rows, and no row
    /// twice. Documents are texts in the local warehouse: they are compared as documents.
    #[must_use]
    pub fn difference(&self, local: &Self, documents: &[&str]) -> Option<String> {
        let expected: BTreeMap<&str, &str> = local
            .columns
            .iter()
            .map(|(name, kind)| {
                let is_document = documents.contains(&name.as_str());
                (name.as_str(), if is_document { "VARIANT" } else { kind.as_str() })
            })
            .collect();
        let found: BTreeMap<&str, &str> =
            self.columns.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
        if found != expected {
            return Some(format!("columns {found:?} instead of {expected:?}"));
        }
        let (found, wanted) = (self.by_name(documents), local.by_name(documents));
        let distinct: BTreeSet<&Row> = found.iter().collect();
        if distinct.len() != found.len() {
            return Some(format!("{} rows, of which only {} are distinct", found.len(), distinct.len()));
        }
        let wanted_distinct: BTreeSet<&Row> = wanted.iter().collect();
        let shown = |one: &BTreeSet<&Row>, other: &BTreeSet<&Row>| -> Vec<String> {
            one.difference(other).take(EXAMPLES).map(|row| format!("{row:?}")).collect()
        };
        let (extra, missing) = (shown(&distinct, &wanted_distinct), shown(&wanted_distinct, &distinct));
        let is_equal = found.len() == wanted.len() && extra.is_empty() && missing.is_empty();
        (!is_equal).then(|| {
            format!("{} rows instead of {}; here alone {extra:?}; there alone {missing:?}", found.len(), wanted.len())
        })
    }

    /// Rows with their values in the order of the columns' names.
    fn by_name(&self, documents: &[&str]) -> Vec<Row> {
        let mut order: Vec<usize> = (0..self.columns.len()).collect();
        order.sort_by_key(|index| &self.columns[*index].0);
        let value = |row: &Row, index: usize| {
            let text = row[index].clone()?;
            let is_document = documents.contains(&self.columns[index].0.as_str());
            Some(if is_document { serde_json::from_str(&text).map_or(text, |read| canonical(&read)) } else { text })
        };
        self.rows.iter().map(|row| order.iter().map(|index| value(row, *index)).collect()).collect()
    }
}

/// A document as a text that does not depend on the order of its fields.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&str, String> =
                fields.iter().map(|(name, value)| (name.as_str(), canonical(value))).collect();
            format!("{sorted:?}")
        }
        Value::Array(items) => format!("{:?}", items.iter().map(canonical).collect::<Vec<_>>()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(kind: &str, rows: &[&str]) -> TableRows {
        TableRows {
            columns: vec![("ID".to_owned(), kind.to_owned()), ("DOC".to_owned(), "VARCHAR".to_owned())],
            rows: rows.iter().map(|text| vec![Some("1".to_owned()), Some((*text).to_owned())]).collect(),
        }
    }

    #[test]
    fn documents_are_equal_whatever_the_order_of_their_fields() {
        let local = table("NUMBER(38,0)", &[r#"{"a":1,"b":[1.5,null]}"#]);
        let mut there = table("NUMBER(38,0)", &[r#"{"b": [1.5, null], "a": 1}"#]);
        there.columns[1].1 = "VARIANT".to_owned();
        assert_eq!(there.difference(&local, &["DOC"]), None);
        there.rows[0][1] = Some(r#"{"b":[1.5],"a":1}"#.to_owned());
        assert!(there.difference(&local, &["DOC"]).is_some());
    }

    #[test]
    fn types_rows_and_copies_are_told() {
        let local = table("NUMBER(38,0)", &["x", "y"]);
        assert_eq!(local.difference(&local, &[]), None);
        for other in
            [table("VARCHAR", &["x", "y"]), table("NUMBER(38,0)", &["x"]), table("NUMBER(38,0)", &["x", "y", "y"])]
        {
            assert!(other.difference(&local, &[]).is_some(), "{other:?}");
        }
    }
}
