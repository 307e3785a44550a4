//! What must be true after a step.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;

use super::feeder::Books;
use super::{Departure, departed};
use crate::Error;
use crate::plan::PlanOptions;
use crate::project::{Expected, NodeId, Step};
use crate::run::{BuildFault, Result, Runner};
use crate::test::compare::{Cell, Rows, compare};
use crate::test::rows::{Shape, build};
use tidemill_project::clock::Micros;

/// Compares what became of the step's records.
pub(super) fn books(step: &Step, books: &Books) -> Option<Departure> {
    let wrong: Vec<String> = step
        .expect_books
        .iter()
        .filter(|(key, count)| books.count(key) != **count)
        .map(|(key, count)| format!("{key} is {}, expected {count}", books.count(key)))
        .collect();
    if !wrong.is_empty() {
        return departed(format!("books differ: {}; quarantined: {}", wrong.join(", "), listed(&books.quarantined)));
    }
    match &step.expect_quarantine {
        Some(expected) if *expected != books.quarantined => {
            departed(format!("quarantine differs: found {}, expected {}", listed(&books.quarantined), listed(expected)))
        }
        _ => None,
    }
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "nothing".to_owned();
    }
    counts.iter().map(|(class, count)| format!("{class} {count}")).collect::<Vec<_>>().join(", ")
}

/// Compares a whole table, as far as the expected columns go.
pub(super) async fn table(runner: &Runner, as_of_us: Micros, expected: &Expected) -> Result<Option<Departure>> {
    let what = expected.node.name();
    let (schema, batches) = read(runner, as_of_us, &expected.node).await?;
    let shape = Shape { schema: schema.into(), is_whole: true };
    let rows = build(&expected.rows, &shape, &what).map_err(Error::from_faults)?;
    let spelled = |name: &String| {
        let field = shape.schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
        field.map_or_else(|| name.clone(), |field| field.name().clone())
    };
    let mut columns: Vec<String> = Vec::new();
    for (name, _) in expected.rows.iter().flat_map(|row| &row.cells) {
        let name = spelled(name);
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    if expected.rows.is_empty() {
        columns = shape.schema.fields().iter().map(|field| field.name().clone()).collect();
    }
    let shaped = || BuildFault::shape(&expected.node);
    let actual = Rows::of(&batches, &columns).map_err(shaped())?;
    let mut wanted = Rows::of(&[rows], &columns).map_err(shaped())?;
    for (row, cells) in expected.rows.iter().zip(&mut wanted.rows) {
        let said: Vec<String> = row.cells.iter().map(|(name, _)| spelled(name)).collect();
        for (column, cell) in columns.iter().zip(cells) {
            if !said.contains(column) {
                *cell = Cell::Any;
            }
        }
    }
    Ok(compare(&actual, &wanted).map(|difference| Departure {
        num_rows: difference.num_rows,
        message: format!("`{what}`: {}", difference.text),
    }))
}

/// The rows of a node as text; all columns unless some are named.
pub(super) async fn rows_of(
    runner: &Runner,
    as_of_us: Micros,
    node: &NodeId,
    columns: Option<&[String]>,
) -> Result<Rows> {
    let (schema, batches) = read(runner, as_of_us, node).await?;
    let all: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    Rows::of(&batches, columns.unwrap_or(&all)).map_err(BuildFault::shape(node))
}

async fn read(runner: &Runner, as_of_us: Micros, node: &NodeId) -> Result<(Schema, Vec<arrow::array::RecordBatch>)> {
    let plan = PlanOptions { as_of_us: Some(as_of_us), ..PlanOptions::default() };
    let executor = runner.executor(&plan, "scenario").await?;
    let render = Runner::looking(&executor);
    let provider = executor.sessions.one(node, &render).await?;
    let context = executor.sessions.empty();
    let frame = context.read_table(provider).map_err(BuildFault::plan(node, None))?;
    let schema = frame.schema().as_arrow().clone();
    let batches = frame.collect().await.map_err(BuildFault::execute(node, None))?;
    Ok((schema, batches))
}
