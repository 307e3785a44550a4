//! Compares marts with the simulator's truth, row by row, and shows a few of their rows.

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use tidemill_simulate::Truth;
use tidemill_transform::SessionContext;

use crate::commands::query::json_array;
use crate::printer::{Printer, thousands};

/// What came of comparing.
pub(super) struct Comparison {
    /// Per mart.
    pub(super) tables: Vec<Compared>,
}

/// One mart beside the truth.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    model: &'static str,
    rows: u64,
    true_rows: u64,
    different: u64,
    /// The first few rows that differ.
    examples: Vec<String>,
}

impl Comparison {
    /// Whether every mart is equal to the truth.
    pub(super) fn is_equal(&self) -> bool {
        self.tables.iter().all(|table| table.different == 0)
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            let verdict = if table.different == 0 {
                "equal to the truth".to_owned()
            } else {
                format!("{} rows DIFFER, e.g. {}", thousands(table.different), table.examples.join("; "))
            };
            text.push_str(&format!("marts   {:<29} {:>8} rows, {verdict}\n", table.model, thousands(table.rows)));
        }
        text
    }
}

/// Compares all marts that the simulator knows.
pub(super) async fn compare(session: &SessionContext, truth: &Truth) -> anyhow::Result<Comparison> {
    let mut tables = Vec::new();
    for mart in truth.marts() {
        let found = rows(session, &mart.query).await?;
        let differences = mart.differences(&found);
        tables.push(Compared {
            model: mart.model,
            rows: found.len() as u64,
            true_rows: mart.num_rows() as u64,
            different: differences.len() as u64,
            examples: differences.examples(2),
        });
    }
    Ok(Comparison { tables })
}

/// A few rows of each kind, for people.
pub(super) async fn samples(session: &SessionContext, printer: Printer) -> anyhow::Result<String> {
    let mut shown = String::new();
    if printer.format() != crate::args::Format::Text {
        return Ok(shown);
    }
    for (title, query) in [
        (
            "total sleep per person and night",
            "select user_id, night_date, tz, round(sleep_seconds / 3600, 2) as hours, interval_count as intervals, is_final \
             from zoner_sleep_nightly order by night_date, user_id limit 5",
        ),
        (
            "activities per person and day",
            "select user_id, local_date, activity, events, late_events from zoner_activity_counts_daily \
             order by local_date, user_id, activity limit 5",
        ),
        (
            "logins per 10 seconds",
            "select window_start, message_count as logins, batch_size as per_second, device_stats, late_count as late \
             from logins_usage_window order by window_start limit 5",
        ),
    ] {
        let batches = session
            .sql(query)
            .await
            .context("failed to plan a sample")?
            .collect()
            .await
            .context("failed to read a sample")?;
        let table = arrow::util::pretty::pretty_format_batches(&batches).context("failed to lay out rows")?;
        shown.push_str(&format!("{title}\n{table}\n\n"));
    }
    Ok(shown)
}

/// Rows of a query as JSON objects.
async fn rows(session: &SessionContext, query: &str) -> anyhow::Result<Vec<Value>> {
    let batches = session.sql(query).await.with_context(|| format!("failed to plan `{query}`"))?.collect().await?;
    Ok(serde_json::from_slice(&json_array(&batches)?)?)
}
