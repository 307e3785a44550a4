//! `tidemill source-freshness`

use tidemill_transform::artifacts::{self, FreshnessResult, FreshnessStatus, names};

use super::workspace::Workspace;
use crate::args::{GlobalArgs, SelectArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table};
use crate::report;

/// Looks at the newest row of sources and writes `sources.json`.
pub(crate) async fn run(global: &GlobalArgs, args: SelectArgs, printer: Printer) -> anyhow::Result<Exit> {
    let workspace = Workspace::load(global)?;
    let watch = workspace.context.clock.stopwatch();
    let selection = workspace.select(&args, printer)?;
    let results = workspace.runner.source_freshness(&selection, &workspace.plan_options()).await?;
    let elapsed_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
    let artifact = workspace.runner.sources_artifact(&results, &workspace.invocation(), elapsed_ms);
    if let Err(error) = artifacts::write(&workspace.target, names::SOURCES, &artifact) {
        printer.note(&format!("warning: {}", report::one_line(&error)));
    }
    workspace.write_manifest(&std::collections::BTreeMap::new(), printer);
    if results.is_empty() {
        printer.note("nothing to do: no selected source declares `freshness` and a `loaded_at_field`");
    }
    printer.result(&artifact, &text_of(&results));
    // A source that could not be looked at is a failure; one that is old is what the command was asked to find.
    let has = |status: FreshnessStatus| results.iter().any(|result| result.status == status);
    Ok(if has(FreshnessStatus::RuntimeError) {
        Exit::Failed
    } else if has(FreshnessStatus::Error) {
        Exit::Rejected
    } else {
        Exit::Done
    })
}

fn text_of(results: &[FreshnessResult]) -> String {
    if results.is_empty() {
        return String::new();
    }
    let mut rows = vec![["source", "status", "newest row (UTC)", "age"].map(str::to_owned).to_vec()];
    for result in results {
        let newest = result.max_loaded_at_us.and_then(chrono::DateTime::from_timestamp_micros);
        rows.push(vec![
            result.source.to_string(),
            match result.status {
                FreshnessStatus::Pass => "PASS",
                FreshnessStatus::Warn => "WARN",
                FreshnessStatus::Error => "ERROR STALE",
                FreshnessStatus::RuntimeError => "ERROR",
            }
            .to_owned(),
            newest.map_or_else(|| "-".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%S").to_string()),
            match (&result.message, newest) {
                (Some(message), _) => message.clone(),
                (None, Some(_)) => super::status::age(result.age_seconds() * 1_000_000),
                (None, None) => "no rows".to_owned(),
            },
        ]);
    }
    table(&rows)
}
