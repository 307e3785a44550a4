//! `run --tell MODEL`: the newest row of a model, now and then, on the terminal and in the log of a continuous run.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tidemill_project::clock::Stopwatch;
use tidemill_transform::Runner;
use tidemill_transform::run::query;

use super::context::Context;
use crate::printer::Printer;
use crate::report::UsageError;

/// Rows are told this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What is told, and when it was told last.
pub(crate) struct Teller {
    /// Model and query.
    models: Vec<(String, String)>,
    told: Option<Stopwatch>,
}

impl Teller {
    /// Looks the models up.
    ///
    /// # Errors
    /// A name that is no model of the project, and a model without `event_time`, of which no row is the newest.
    pub(crate) fn new(runner: &Runner, names: &[String]) -> anyhow::Result<Self> {
        let models = names.iter().map(|name| Ok((name.clone(), newest_row(runner, name)?)));
        Ok(Self { models: models.collect::<anyhow::Result<_>>()?, told: None })
    }

    /// Tells, when it is time.
    ///
    /// # Errors
    /// What the lake and the models answer. A model that was not built yet has nothing to tell.
    pub(crate) async fn tell(&mut self, runner: &Runner, context: &Context, printer: Printer) -> anyhow::Result<()> {
        let is_early = self.told.is_some_and(|told| told.elapsed() < TELL_EVERY);
        if self.models.is_empty() || is_early {
            return Ok(());
        }
        self.told = Some(context.clock.stopwatch());
        let session = runner.query_context().await?;
        for (name, sql) in &self.models {
            for rows in query(&session, sql).await?.iter().filter(|rows| rows.num_rows() > 0) {
                printer.step(name, &text_of(rows)?);
            }
        }
        Ok(())
    }
}

fn newest_row(runner: &Runner, name: &str) -> anyhow::Result<String> {
    let models = &runner.project().models;
    let Some(model) = models.get(name) else {
        let near = tidemill_project::error::nearest(name, models.keys().map(String::as_str));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(UsageError { message: format!("--tell: no model is named `{name}`{hint}") }.into());
    };
    let Some(event_time) = &model.config.event_time else {
        let message = format!("--tell: `{name}` has no `event_time`, so none of its rows is the newest");
        return Err(UsageError { message }.into());
    };
    Ok(format!("select * from \"{name}\" order by \"{event_time}\" desc limit 1"))
}

/// `column=value` for every column of the first row that holds one.
fn text_of(rows: &RecordBatch) -> anyhow::Result<String> {
    let options = FormatOptions::default();
    let schema = rows.schema();
    let mut parts = Vec::new();
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        if !column.is_null(0) {
            parts.push(format!("{}={}", field.name(), ArrayFormatter::try_new(column, &options)?.value(0)));
        }
    }
    Ok(parts.join(" "))
}
