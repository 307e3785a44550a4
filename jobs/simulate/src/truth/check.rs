//! Compares rows that were found with the true ones.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::model::{Kind, ModelTruth, hash_sorted};
use crate::key::hex;

/// Doubles differ when they are further apart than this, relative to the greater of them and one.
const TOLERANCE: f64 = 1e-9;

/// How what was found differs from the truth, each as a sentence that names the row's key, or the column of a sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Rows that were found.
    pub num_rows: u64,
    /// True rows that were not found.
    pub missing: Vec<String>,
    /// Rows found under keys that are not true, or once too often.
    pub extra: Vec<String>,
    /// Rows found under a true key with other values; for tables that the truth does not keep whole, sums and hashes.
    pub changed: Vec<String>,
}

impl Differences {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.missing.len() + self.extra.len() + self.changed.len()
    }

    /// Whether the model is equal to the truth.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first few of each kind, for people.
    #[must_use]
    pub fn examples(&self, count: usize) -> Vec<String> {
        [("missing", &self.missing), ("extra", &self.extra), ("changed", &self.changed)]
            .into_iter()
            .flat_map(|(kind, rows)| rows.iter().take(count).map(move |row| format!("{kind} {row}")))
            .collect()
    }
}

/// A comparison under way: rows go in one by one, differences come out.
pub struct Check<'a> {
    truth: &'a ModelTruth,
    num_rows: u64,
    found: Found,
}

/// What is kept of the rows found: themselves while the truth has its own, else what a long table can be told by.
enum Found {
    Rows(Vec<Vec<Value>>),
    Totals(Box<Totals>),
}

/// Hash and sums of the rows so far. Rows with the same first cell wait, to be hashed in the order of their texts.
struct Totals {
    hash: Sha256,
    waiting: Vec<String>,
    first: Option<Value>,
    sums: Vec<i128>,
    doubles: Vec<f64>,
}

impl Totals {
    fn new(width: usize) -> Self {
        Self { hash: Sha256::new(), waiting: Vec::new(), first: None, sums: vec![0; width], doubles: vec![0.0; width] }
    }

    fn add(&mut self, cells: &[Value], truth: &ModelTruth) {
        if truth.is_ordered_by_first() && self.first.as_ref() != cells.first() {
            hash_sorted(&mut self.hash, &mut self.waiting);
            self.first = cells.first().cloned();
        }
        for (index, (cell, column)) in cells.iter().zip(&truth.columns).enumerate() {
            match column.kind {
                Kind::Decimal => self.sums[index] += cell.as_str().and_then(units).unwrap_or_default(),
                Kind::Double => self.doubles[index] += cell.as_f64().unwrap_or_default(),
                _ => self.sums[index] += i128::from(cell.as_i64().unwrap_or_default()),
            }
        }
        self.waiting.push(line(cells, truth.num_exact()));
    }

    /// The hash over all rows.
    fn sha256(&mut self) -> String {
        hash_sorted(&mut self.hash, &mut self.waiting);
        hex(&self.hash.finalize_reset())
    }
}

impl std::fmt::Debug for Check<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("num_rows", &self.num_rows).finish_non_exhaustive()
    }
}

impl ModelTruth {
    /// Begins a comparison with rows that [`ModelTruth::query`] finds.
    #[must_use]
    pub fn check(&self) -> Check<'_> {
        let found = if self.rows.is_some() {
            Found::Rows(Vec::new())
        } else {
            Found::Totals(Box::new(Totals::new(self.columns.len())))
        };
        Check { truth: self, num_rows: 0, found }
    }

    /// Compares rows that are all at hand: JSON objects with their columns in the query's order.
    #[must_use]
    pub fn differences(&self, rows: &[Value]) -> Differences {
        let mut check = self.check();
        for row in rows {
            check.row(row);
        }
        check.finish()
    }
}

impl Check<'_> {
    /// Takes a row: a JSON object with its columns in the query's order.
    pub fn row(&mut self, row: &Value) {
        self.num_rows += 1;
        let cells: Vec<Value> = match row {
            Value::Object(fields) => fields.values().cloned().collect(),
            other => vec![other.clone()],
        };
        match &mut self.found {
            Found::Rows(rows) => rows.push(cells),
            Found::Totals(totals) => totals.add(&cells, self.truth),
        }
    }

    /// Ends the comparison.
    #[must_use]
    pub fn finish(self) -> Differences {
        let mut differences = Differences { num_rows: self.num_rows, ..Differences::default() };
        match self.found {
            Found::Rows(rows) => compare_rows(self.truth, &rows, &mut differences),
            Found::Totals(mut totals) => {
                let sha256 = totals.sha256();
                compare_totals(self.truth, &sha256, &totals, &mut differences);
            }
        }
        differences
    }
}

fn compare_rows(truth: &ModelTruth, found: &[Vec<Value>], differences: &mut Differences) {
    let key = |row: &[Value]| line(row, truth.key);
    let mut expected: BTreeMap<String, &[Value]> =
        truth.rows.iter().flatten().map(|row| (key(row), row.as_slice())).collect();
    for row in found {
        match expected.remove(&key(row)) {
            None => differences.extra.push(line(row, row.len())),
            Some(wanted) => {
                let changes = changes(truth, wanted, row);
                if !changes.is_empty() {
                    differences.changed.push(format!("{}: {}", key(row), changes.join(", ")));
                }
            }
        }
    }
    differences.missing.extend(expected.values().map(|row| line(row, row.len())));
}

/// Columns of a row that are not as they should be.
fn changes(truth: &ModelTruth, wanted: &[Value], found: &[Value]) -> Vec<String> {
    let is_equal = |kind: Kind, wanted: &Value, found: &Value| match (kind, wanted.as_f64(), found.as_f64()) {
        (Kind::Double, Some(wanted), Some(found)) => is_close(wanted, found),
        _ => wanted == found,
    };
    let mut changes = Vec::new();
    for (index, column) in truth.columns.iter().enumerate() {
        let (wanted, found) = (wanted.get(index).unwrap_or(&Value::Null), found.get(index).unwrap_or(&Value::Null));
        if !is_equal(column.kind, wanted, found) {
            changes.push(format!("{} is {found} instead of {wanted}", column.name));
        }
    }
    changes
}

fn compare_totals(truth: &ModelTruth, sha256: &str, found: &Totals, differences: &mut Differences) {
    let Totals { sums, doubles, .. } = found;
    if differences.num_rows != truth.num_rows {
        differences.changed.push(format!("{} rows instead of {}", differences.num_rows, truth.num_rows));
    }
    for (index, column) in truth.columns.iter().enumerate() {
        let Some(wanted) = truth.sums.get(&column.name) else { continue };
        let (is_equal, found) = match column.kind {
            Kind::Double => {
                (wanted.parse().is_ok_and(|wanted| is_close(wanted, doubles[index])), doubles[index].to_string())
            }
            _ => (units(wanted) == Some(sums[index]), sums[index].to_string()),
        };
        if !is_equal {
            differences.changed.push(format!("the sum of {} is {found} instead of {wanted}", column.name));
        }
    }
    if sha256 != truth.sha256 {
        differences.changed.push(format!("the hash of all rows is {sha256} instead of {}", truth.sha256));
    }
}

/// The first cells of a row as a JSON array's text.
fn line(row: &[Value], cells: usize) -> String {
    let cells: Vec<String> = row.iter().take(cells).map(ToString::to_string).collect();
    format!("[{}]", cells.join(","))
}

/// A decimal's digits without its point.
fn units(text: &str) -> Option<i128> {
    text.replace('.', "").parse().ok()
}

fn is_close(one: f64, other: f64) -> bool {
    (one - other).abs() <= TOLERANCE * one.abs().max(other.abs()).max(1.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::model::{Cell, Kind, Table};
    use super::*;

    const COLUMNS: &[(&str, Kind)] =
        &[("start", Kind::Instant), ("who", Kind::Text), ("amount", Kind::Decimal), ("mean", Kind::Double)];

    /// Two rows of one group and one of another, kept or not.
    fn truth(keep_up_to: usize) -> ModelTruth {
        let mut table = Table::new("m", COLUMNS, 2, keep_up_to);
        let amount = |units| Cell::Decimal { units, scale: 2 };
        table.row(&[1_741_392_000_000_000_i64.into(), "b".into(), amount(150), 0.5.into()]);
        table.row(&[1_741_392_000_000_000_i64.into(), "a".into(), amount(-1), 1.5.into()]);
        table.close_group();
        table.row(&[1_741_392_060_000_000_i64.into(), "a".into(), amount(7), 2.0.into()]);
        table.finish().1
    }

    fn rows() -> Vec<Value> {
        vec![
            json!({"start": 1_741_392_000_000_000_i64, "who": "a", "amount": "-0.01", "mean": 1.5}),
            json!({"start": 1_741_392_000_000_000_i64, "who": "b", "amount": "1.50", "mean": 0.500_000_000_000_1}),
            json!({"start": 1_741_392_060_000_000_i64, "who": "a", "amount": "0.07", "mean": 2.0}),
        ]
    }

    #[test]
    fn equal_rows_are_equal_whether_they_are_kept_or_hashed() {
        for keep_up_to in [10, 2] {
            let truth = truth(keep_up_to);
            assert_eq!(truth.rows.is_some(), keep_up_to == 10);
            assert_eq!(truth.sums["amount"], "1.56");
            assert!(truth.differences(&rows()).is_empty(), "{:?}", truth.differences(&rows()));
        }
    }

    #[test]
    fn lost_doubled_and_changed_rows_are_told_by_their_keys() {
        let truth = truth(10);
        let lost = truth.differences(&rows()[1..]);
        assert_eq!(lost.missing, ["[1741392000000000,\"a\",\"-0.01\",1.5]"]);
        let doubled = truth.differences(&[&rows()[..], &rows()[2..]].concat());
        assert_eq!(doubled.extra, ["[1741392060000000,\"a\",\"0.07\",2.0]"]);
        let mut rows = rows();
        rows[0]["mean"] = json!(1.500_001);
        let changed = truth.differences(&rows);
        assert_eq!(changed.changed, ["[1741392000000000,\"a\"]: mean is 1.500001 instead of 1.5"]);
        assert_eq!(changed.len(), 1);
    }

    #[test]
    fn a_long_table_that_differs_in_one_digit_is_told_by_sum_and_hash() {
        let mut rows = rows();
        rows[2]["amount"] = json!("0.08");
        let changed = truth(2).differences(&rows).changed;
        assert_eq!(changed.len(), 2, "{changed:?}");
        assert!(changed[0].starts_with("the sum of amount is 157 instead of 1.56"), "{changed:?}");
    }

    #[test]
    fn a_truth_file_is_read_back_as_it_was_written() {
        let mut written = crate::Truth::default();
        written.models.insert("m".to_owned(), truth(10));
        written.models.insert("n".to_owned(), truth(1));
        let text = serde_json::to_string(&written).expect("truth is JSON");
        assert_eq!(crate::Truth::from_json(&text).expect("what was written is read"), written);
    }
}
