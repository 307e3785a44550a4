//! `tidemill status`

use serde_json::json;
use tidemill_transform::plan::PlanOptions;

use super::build::{runner, selection};
use super::context::Context;
use super::publish::publications;
use crate::args::{GlobalArgs, SelectArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table, thousands};

/// Shows lag, freshness, published versions.
pub(crate) async fn run(global: &GlobalArgs, args: SelectArgs, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let runner = runner(&context)?;
    let selection = selection(args);
    let now_us = context.clock.now_us();

    let mut sources = Vec::new();
    for contract in context.selected_contracts(&[])? {
        sources.push(tidemill_ingest::status::status(&context.settings, &context.lake, &contract).await?);
    }
    let heading = ["source", "lag", "last event (UTC)", "last commit", "landed", "duplicates", "quarantined"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for source in &sources {
        rows.push(vec![
            source.source.clone(),
            source.lag.map_or_else(|| "?".to_owned(), thousands),
            source.last_event_at_us.map_or_else(|| "-".to_owned(), instant),
            match (source.version, source.committed_ms) {
                (Some(version), Some(at_ms)) => format!("{version}, {} ago", age(now_us - at_ms * 1000)),
                (Some(version), None) => version.to_string(),
                (None, _) => "-".to_owned(),
            },
            thousands(source.landed),
            thousands(source.duplicates),
            thousands(source.quarantined),
        ]);
    }
    let mut text = table(&rows);
    for source in &sources {
        if let Some(fault) = &source.broker_fault {
            printer.note(&format!("warning: {}: lag is not known: {fault}", source.source));
        }
    }

    let plan = runner.plan(&selection, &PlanOptions { as_of_us: context.as_of_us, ..PlanOptions::default() }).await?;
    let mut rows = vec![["model", "state", "because"].map(str::to_owned).to_vec()];
    for model in &plan.models {
        let state = if model.is_fresh() { "fresh" } else { "stale" };
        rows.push(vec![model.model.clone(), state.to_owned(), model.reason.to_string()]);
    }
    text.push('\n');
    text.push_str(&table(&rows));

    let publications = publications(&runner, &selection)?;
    let published = tidemill_publish::published_versions(&context.settings, &context.lake, &publications).await?;
    let mut rows = vec![["target", "sink", "published", "newest"].map(str::to_owned).to_vec()];
    let version = |version: Option<tidemill_project::TableVersion>| {
        version.map_or_else(|| "-".to_owned(), |version| version.to_string())
    };
    for target in &published {
        rows.push(vec![
            target.target.to_string(),
            target.sink.to_owned(),
            version(target.version),
            version(target.newest),
        ]);
    }
    text.push('\n');
    text.push_str(&table(&rows));

    let models: Vec<serde_json::Value> = plan
        .models
        .iter()
        .map(|model| json!({ "model": model.model, "fresh": model.is_fresh(), "because": model.reason.to_string(), "plan": model }))
        .collect();
    printer.result(&json!({ "sources": sources, "models": models, "targets": published }), &text);
    Ok(Exit::Done)
}

fn instant(us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(us).map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

/// A length of time in its largest unit.
pub(crate) fn age(us: i64) -> String {
    let seconds = us.max(0) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
