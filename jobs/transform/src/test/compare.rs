//! What is there against what should be: order-free, doubles to 1e-9, told as dbt tells it.

use std::fmt::Write as _;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Doubles this near to each other are equal; relative to the expected one where that is above 1.
const TOLERANCE: f64 = 1e-9;
/// Rows that agree are shown beside those that do not while there are no more of both than this.
const MAX_SHOWN: usize = 20;

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// Null.
    Null,
    /// A float of either width.
    Number(f64),
    /// Anything else, as Arrow writes it.
    Text(String),
    /// Of an expected row: not said, so any value will do.
    Any,
}

impl Cell {
    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) | (Self::Null, Self::Null) => true,
            (Self::Number(left), Self::Number(right)) => {
                left.to_bits() == right.to_bits()
                    || (left - right).abs() <= TOLERANCE * right.abs().max(1.0)
                    || left == right
                    || (left.is_nan() && right.is_nan())
            }
            (Self::Text(left), Self::Text(right)) => left == right,
            _ => false,
        }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Number(value) => write!(f, "{value:?}"),
            Self::Text(text) => f.write_str(text),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Rows of one shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

impl Rows {
    /// The named columns of batches of one schema; columns that are not there are an error of the caller's.
    ///
    /// # Errors
    /// A type that Arrow cannot write.
    pub(crate) fn of(batches: &[RecordBatch], columns: &[String]) -> Result<Self, ArrowError> {
        let options = FormatOptions::default().with_display_error(false);
        let mut rows = Vec::new();
        for batch in batches {
            let mut cells: Vec<Vec<Cell>> = vec![Vec::with_capacity(columns.len()); batch.num_rows()];
            for name in columns {
                let index = batch.schema().index_of(name)?;
                let column = batch.column(index);
                let formatter = ArrayFormatter::try_new(column, &options)?;
                for (row, cells) in cells.iter_mut().enumerate() {
                    cells.push(if column.is_null(row) {
                        Cell::Null
                    } else {
                        match column.data_type() {
                            DataType::Float64 => Cell::Number(column.as_primitive::<Float64Type>().value(row)),
                            DataType::Float32 => Cell::Number(column.as_primitive::<Float32Type>().value(row).into()),
                            _ => Cell::Text(formatter.value(row).try_to_string()?),
                        }
                    });
                }
            }
            rows.extend(cells);
        }
        Ok(Self { columns: columns.to_vec(), rows })
    }
}

/// How two sets of rows differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Rows that are missing, unexpected or changed.
    pub num_rows: u64,
    /// `@@` heads the columns, `+++` is a row that is there and not expected, `---` one that is expected and not there, `→` one
    /// that is there with other values: `expected→actual`.
    pub text: String,
}

/// Compares rows of the same columns, in any order; `None` when they agree.
pub(crate) fn compare(actual: &Rows, expected: &Rows) -> Option<Difference> {
    let is_same =
        |expected: &[Cell], actual: &[Cell]| expected.iter().zip(actual).all(|(left, right)| left.equals(right));
    let mut partner: Vec<Option<usize>> = vec![None; expected.rows.len()];
    let mut left: Vec<usize> = (0..actual.rows.len()).collect();
    // Rows that say more choose first, so that one that says little does not take what only another can match.
    let mut order: Vec<usize> = (0..expected.rows.len()).collect();
    order.sort_by_key(|index| expected.rows[*index].iter().filter(|cell| **cell == Cell::Any).count());
    for index in order {
        if let Some(at) = left.iter().position(|found| is_same(&expected.rows[index], &actual.rows[*found])) {
            partner[index] = Some(left.remove(at));
        }
    }
    if left.is_empty() && partner.iter().all(Option::is_some) {
        return None;
    }
    let num_same = partner.iter().flatten().count();
    let shows_same = actual.rows.len().max(expected.rows.len()) <= MAX_SHOWN;
    let mut lines: Vec<(&str, Vec<String>)> = vec![("@@", actual.columns.clone())];
    let mut num_rows = 0;
    for (index, row) in expected.rows.iter().enumerate() {
        if let Some(found) = partner[index] {
            if shows_same {
                lines.push(("", texts(&actual.rows[found])));
            }
            continue;
        }
        num_rows += 1;
        match nearest(row, &left, actual) {
            Some(at) => {
                let found = &actual.rows[left.remove(at)];
                let cells = row.iter().zip(found).map(|(wanted, found)| {
                    if wanted.equals(found) { found.to_string() } else { format!("{wanted}→{found}") }
                });
                lines.push(("→", cells.collect()));
            }
            None => lines.push(("---", texts(row))),
        }
    }
    for index in left {
        num_rows += 1;
        lines.push(("+++", texts(&actual.rows[index])));
    }
    let mut text = "actual differs from expected:\n\n".to_owned();
    text.push_str(&aligned(&lines));
    if !shows_same && num_same > 0 {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "... {num_same} rows agree");
    }
    Some(Difference { num_rows, text })
}

fn texts(row: &[Cell]) -> Vec<String> {
    row.iter().map(ToString::to_string).collect()
}

/// The unexpected row that shares most values with a missing one: half of them at least.
fn nearest(wanted: &[Cell], left: &[usize], actual: &Rows) -> Option<usize> {
    let shared =
        |index: usize| wanted.iter().zip(&actual.rows[index]).filter(|(left, right)| left.equals(right)).count();
    let (at, count) = left
        .iter()
        .enumerate()
        .map(|(at, index)| (at, shared(*index)))
        .max_by_key(|(at, count)| (*count, usize::MAX - at))?;
    (count > 0 && count * 2 >= wanted.len()).then_some(at)
}

fn aligned(lines: &[(&str, Vec<String>)]) -> String {
    let columns = lines.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
    let width =
        |column: usize| lines.iter().filter_map(|(_, cells)| cells.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (marker, cells) in lines {
        let mut line = format!("{marker:<3}");
        for (cell, width) in cells.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, ",{cell:<width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Rows {
        let cell = |text: &&str| match *text {
            "null" => Cell::Null,
            "*" => Cell::Any,
            text => text.parse().map_or_else(|_| Cell::Text(text.to_owned()), Cell::Number),
        };
        let columns = ["email", "valid", "share"].map(str::to_owned).to_vec();
        Rows { columns, rows: rows.iter().map(|row| row.iter().map(cell).collect()).collect() }
    }

    #[test]
    fn the_order_of_rows_and_the_last_digits_of_doubles_do_not_count() {
        let actual = rows(&[&["a", "true", "0.30000000000000004"], &["b", "false", "null"], &["b", "false", "null"]]);
        let expected = rows(&[&["b", "false", "null"], &["a", "true", "0.3"], &["b", "false", "null"]]);
        assert_eq!(compare(&actual, &expected), None);
        // One copy fewer is a difference.
        let expected = rows(&[&["b", "false", "null"], &["a", "true", "0.3"]]);
        assert_eq!(compare(&actual, &expected).unwrap().num_rows, 1);
    }

    #[test]
    fn a_row_that_says_little_leaves_the_others_their_partners() {
        let actual = rows(&[&["a", "true", "1"], &["a", "true", "2"]]);
        let expected = rows(&[&["a", "*", "*"], &["a", "true", "1"]]);
        assert_eq!(compare(&actual, &expected), None);
    }

    #[test]
    fn differences_are_told_as_dbt_tells_them() {
        let actual = rows(&[&["cool@example.com", "false", "1"], &["b", "true", "2"], &["new", "false", "3"]]);
        let expected = rows(&[&["cool@example.com", "true", "1"], &["b", "true", "2"], &["gone", "true", "9"]]);
        let difference = compare(&actual, &expected).unwrap();
        assert_eq!(difference.num_rows, 3);
        insta::assert_snapshot!(difference.text, @"
        actual differs from expected:

        @@ ,email           ,valid     ,share
        →  ,cool@example.com,true→false,1.0
           ,b               ,true      ,2.0
        ---,gone            ,true      ,9.0
        +++,new             ,false     ,3.0
        ");
    }
}
