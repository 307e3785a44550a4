//! The rows of one model: count, exact sums, hash, and the rows themselves while they are few.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::key::hex;

/// What a column holds, and with it the unit in which the truth writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A whole number.
    Int,
    /// A text.
    Text,
    /// True or false.
    Bool,
    /// An instant: microseconds since the epoch, UTC.
    Instant,
    /// A day: days since the epoch.
    Day,
    /// A decimal number of seconds: microseconds.
    Seconds,
    /// An exact decimal: its text with all digits of the column's scale.
    Decimal,
    /// A double, compared to 1e-9.
    Double,
}

impl Kind {
    /// Whether values are compared digit by digit.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self != Self::Double
    }

    /// Whether the order of values is that of their texts: instants since 2001 and days since 1997 have one length each.
    fn keeps_order(self) -> bool {
        matches!(self, Self::Instant | Self::Day)
    }
}

/// A column of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// What a model must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelTruth {
    /// Exact columns, then doubles. Columns that depend on the clock of a run are not among them.
    pub columns: Vec<Column>,
    /// How many of the first columns make a row's key.
    pub key: usize,
    /// Number of rows.
    #[serde(rename = "rows")]
    pub num_rows: u64,
    /// Sums of the columns that are counts, seconds, decimals or doubles and no part of the key, as texts.
    pub sums: BTreeMap<String, String>,
    /// SHA-256 over the rows as JSON arrays of their exact columns, one a line, sorted.
    pub sha256: String,
    /// The rows, as long as they are few, sorted by their texts.
    #[serde(rename = "table")]
    pub rows: Option<Vec<Vec<Value>>>,
}

impl ModelTruth {
    /// Number of exact columns: they come first.
    pub(crate) fn num_exact(&self) -> usize {
        self.columns.iter().take_while(|column| column.kind.is_exact()).count()
    }

    /// Whether rows sorted by their first column alone can be hashed without holding them all.
    pub(crate) fn is_ordered_by_first(&self) -> bool {
        self.columns.first().is_some_and(|column| column.kind.keeps_order())
    }

    /// Reads all rows of a model in the truth's units, in DataFusion's SQL. A model whose rows the truth does not keep is
    /// read in the order of its first column where that helps [`Check`](super::Check) to hold few of them.
    #[must_use]
    pub fn query(&self, model: &str) -> String {
        let mut sql = "select ".to_owned();
        for (index, Column { name, kind }) in self.columns.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            let value = match kind {
                Kind::Int | Kind::Instant => format!("cast(\"{name}\" as bigint)"),
                Kind::Text | Kind::Decimal => format!("cast(\"{name}\" as varchar)"),
                Kind::Bool => format!("\"{name}\""),
                Kind::Day => format!("cast(cast(\"{name}\" as int) as bigint)"),
                Kind::Seconds => format!("cast(\"{name}\" * 1000000 as bigint)"),
                Kind::Double => format!("cast(\"{name}\" as double)"),
            };
            let _ = write!(sql, "{comma}{value} as \"{name}\"");
        }
        let _ = write!(sql, " from {model}");
        if self.rows.is_none() && self.is_ordered_by_first() {
            sql.push_str(" order by 1");
        }
        sql
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(Cow<'static, str>),
    Bool(bool),
    /// Units of ten to the minus `scale`.
    Decimal {
        units: i128,
        scale: u32,
    },
    Double(f64),
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).expect("counts are below 2^63"))
    }
}

impl From<Option<i64>> for Cell {
    fn from(value: Option<i64>) -> Self {
        value.map_or(Self::Null, Self::Int)
    }
}

impl From<&'static str> for Cell {
    fn from(value: &'static str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<Option<f64>> for Cell {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Null, Self::Double)
    }
}

/// A decimal's text with all digits of its scale.
pub(crate) fn decimal_text(units: i128, scale: u32) -> String {
    if scale == 0 {
        return units.to_string();
    }
    let unit = 10_i128.pow(scale);
    let (sign, magnitude) = (if units < 0 { "-" } else { "" }, units.abs());
    format!("{sign}{}.{:0width$}", magnitude / unit, magnitude % unit, width = scale as usize)
}

/// Collects the rows of one model.
///
/// Rows come in groups, each of which sorts before the next by its first column, so that a long table is hashed group by
/// group; a table that is added in one piece may have any first column.
pub(crate) struct Table {
    model: &'static str,
    columns: &'static [(&'static str, Kind)],
    key: usize,
    group: Vec<String>,
    hash: Sha256,
    num_rows: u64,
    sums: Vec<Sum>,
    kept: Option<Vec<Vec<Value>>>,
    keep_up_to: usize,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    units: i128,
    scale: u32,
    double: f64,
}

impl Table {
    pub(crate) fn new(
        model: &'static str,
        columns: &'static [(&'static str, Kind)],
        key: usize,
        keep_up_to: usize,
    ) -> Self {
        Self {
            model,
            columns,
            key,
            group: Vec::new(),
            hash: Sha256::new(),
            num_rows: 0,
            sums: vec![Sum::default(); columns.len()],
            kept: Some(Vec::new()),
            keep_up_to,
        }
    }

    /// Adds a row to the open group: a cell per column, in their order.
    pub(crate) fn row(&mut self, cells: &[Cell]) {
        debug_assert_eq!(cells.len(), self.columns.len(), "{}", self.model);
        let mut line = String::with_capacity(96);
        line.push('[');
        for (index, (cell, (_, kind))) in cells.iter().zip(self.columns).enumerate() {
            if kind.is_exact() {
                if index > 0 {
                    line.push(',');
                }
                write_cell(&mut line, cell);
            }
            let sum = &mut self.sums[index];
            match cell {
                Cell::Int(number) => sum.units += i128::from(*number),
                Cell::Decimal { units, scale } => (sum.units, sum.scale) = (sum.units + units, *scale),
                Cell::Double(number) => sum.double += number,
                Cell::Null | Cell::Text(_) | Cell::Bool(_) => {}
            }
        }
        line.push(']');
        self.group.push(line);
        self.num_rows += 1;
        match &mut self.kept {
            Some(kept) if kept.len() < self.keep_up_to => kept.push(cells.iter().map(value).collect()),
            kept => *kept = None,
        }
    }

    /// Ends a group: all rows that follow have a greater first column.
    pub(crate) fn close_group(&mut self) {
        hash_sorted(&mut self.hash, &mut self.group);
    }

    /// Ends the table.
    pub(crate) fn finish(mut self) -> (String, ModelTruth) {
        self.close_group();
        let is_summed = |index: usize, kind: Kind| {
            index >= self.key && matches!(kind, Kind::Int | Kind::Seconds | Kind::Decimal | Kind::Double)
        };
        let sums = self
            .columns
            .iter()
            .enumerate()
            .filter(|(index, (_, kind))| is_summed(*index, *kind))
            .map(|(index, (name, kind))| {
                let sum = self.sums[index];
                let text =
                    if *kind == Kind::Double { sum.double.to_string() } else { decimal_text(sum.units, sum.scale) };
                ((*name).to_owned(), text)
            })
            .collect();
        let columns =
            self.columns.iter().map(|(name, kind)| Column { name: (*name).to_owned(), kind: *kind }).collect();
        // Rows come in any order inside of a group; a truth file has the same bytes each time.
        if let Some(kept) = &mut self.kept {
            kept.sort_by_cached_key(|row| Value::from(row.clone()).to_string());
        }
        let truth = ModelTruth {
            columns,
            key: self.key,
            num_rows: self.num_rows,
            sums,
            sha256: hex(&self.hash.finalize()),
            rows: self.kept,
        };
        (self.model.to_owned(), truth)
    }
}

/// Feeds lines in sorted order and forgets them.
pub(super) fn hash_sorted(hash: &mut Sha256, lines: &mut Vec<String>) {
    lines.sort_unstable();
    for line in lines.drain(..) {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
}

fn write_cell(line: &mut String, cell: &Cell) {
    match cell {
        Cell::Int(number) => {
            let _ = write!(line, "{number}");
        }
        Cell::Text(text) if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') => {
            line.push('"');
            line.push_str(text);
            line.push('"');
        }
        other => line.push_str(&value(other).to_string()),
    }
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Int(number) => Value::from(*number),
        Cell::Text(text) => Value::from(text.as_ref()),
        Cell::Bool(truth) => Value::from(*truth),
        Cell::Decimal { units, scale } => Value::from(decimal_text(*units, *scale)),
        Cell::Double(number) => Value::from(*number),
    }
}
