//! `tidemill quarantine list | show | replay`

use anyhow::Context as _;
use serde_json::{Value, json};
use tidemill_ingest::quarantine::{self, Filter, ListedEntry, Replay, ReplayOutcome};
use tidemill_project::SourceName;

use super::context::Context;
use crate::args::{GlobalArgs, QuarantineCommand, QuarantineReplayArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table};
use crate::report::UsageError;
use crate::signals;

/// Runs one of the three.
pub(crate) async fn run(global: &GlobalArgs, command: QuarantineCommand, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    match command {
        QuarantineCommand::List(args) => {
            let mut entries = Vec::new();
            for source in sources(&context, &args.select)? {
                let filter = Filter { source, class: args.class.clone(), limit: Some(args.limit), ..Filter::default() };
                entries.extend(quarantine::list(&context.lake, &filter).await?);
            }
            entries.truncate(args.limit);
            let heading = ["id", "source", "class", "replayed", "message"];
            let mut rows = vec![heading.map(str::to_owned).to_vec()];
            rows.extend(entries.iter().map(|listed| {
                vec![
                    listed.entry.place.id(),
                    listed.entry.source.clone(),
                    listed.entry.class.clone(),
                    listed.replayed.as_ref().map_or("-", outcome).to_owned(),
                    listed.entry.message.clone(),
                ]
            }));
            let objects: Vec<Value> = entries.iter().map(object).collect();
            printer.result(&json!({ "entries": objects }), &table(&rows));
        }
        QuarantineCommand::Show(args) => {
            let listed = quarantine::show(&context.lake, &args.id).await?;
            printer.result(&object(&listed), &details(&listed));
        }
        QuarantineCommand::Replay(args) => return replay(&context, args, printer).await,
    }
    Ok(Exit::Done)
}

async fn replay(context: &Context, args: QuarantineReplayArgs, printer: Printer) -> anyhow::Result<Exit> {
    let patch = args.patch.as_deref().map(serde_json::from_str).transpose().context("--patch is no JSON")?;
    let contracts = context.contracts()?.contracts;
    let cancel = signals::cancel_on_signal()?;
    let mut filters = Vec::new();
    if args.ids.is_empty() {
        for source in sources(context, &args.select)? {
            filters.push(Filter { source, class: args.class.clone(), ..Filter::default() });
        }
    } else {
        filters.extend(args.ids.iter().map(|id| Filter {
            id: Some(id.clone()),
            class: args.class.clone(),
            ..Filter::default()
        }));
    }
    let mut outcomes = Vec::new();
    for filter in filters {
        let request = Replay { filter, patch: patch.clone(), is_dry_run: args.dry_run, run_id: context.run_id.clone() };
        let report = quarantine::replay(&context.settings, &context.lake, &contracts, &request, &cancel).await?;
        outcomes.extend(report.entries);
    }
    let mut rows = vec![["id", "outcome", "message"].map(str::to_owned).to_vec()];
    let mut objects = Vec::new();
    for (id, result) in &outcomes {
        let message = match result {
            ReplayOutcome::Refused { class, message } => format!("{class}: {message}"),
            ReplayOutcome::Landed | ReplayOutcome::Duplicate => String::new(),
        };
        objects.push(json!({ "id": id, "outcome": outcome(result), "message": message }));
        rows.push(vec![id.clone(), outcome(result).to_owned(), message]);
    }
    printer.result(&json!({ "run_id": context.run_id, "dry_run": args.dry_run, "entries": objects }), &table(&rows));
    Ok(Exit::Done)
}

/// The sources of a selection; `None` stands for all of them.
fn sources(context: &Context, selection: &[String]) -> anyhow::Result<Vec<Option<SourceName>>> {
    if selection.is_empty() {
        return Ok(vec![None]);
    }
    let contracts = context.selected_contracts(selection)?;
    if contracts.is_empty() {
        return Err(UsageError { message: "the selection names no source".to_owned() }.into());
    }
    Ok(contracts.into_iter().map(|contract| Some(contract.name)).collect())
}

fn outcome(outcome: &ReplayOutcome) -> &'static str {
    match outcome {
        ReplayOutcome::Landed => "landed",
        ReplayOutcome::Duplicate => "duplicate",
        ReplayOutcome::Refused { .. } => "refused",
    }
}

fn object(listed: &ListedEntry) -> Value {
    let entry = &listed.entry;
    json!({
        "id": entry.place.id(),
        "source": entry.source,
        "class": entry.class,
        "message": entry.message,
        "payload": entry.payload.as_deref().map(lossy),
        "key": entry.key.as_deref().map(lossy),
        "headers": entry.headers.iter().map(|(name, value)| json!([name, value.as_deref().map(lossy)])).collect::<Vec<_>>(),
        "timestamp_us": entry.timestamp_us,
        "quarantined_at_us": entry.quarantined_at_us,
        "replayed": listed.replayed.as_ref().map(outcome),
    })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn details(listed: &ListedEntry) -> String {
    let entry = &listed.entry;
    let instant = |us: i64| chrono::DateTime::from_timestamp_micros(us).map(|at| at.to_rfc3339()).unwrap_or_default();
    let mut rows = vec![
        vec!["id".to_owned(), entry.place.id()],
        vec!["source".to_owned(), entry.source.clone()],
        vec!["class".to_owned(), entry.class.clone()],
        vec!["message".to_owned(), entry.message.clone()],
        vec!["timestamp".to_owned(), entry.timestamp_us.map(instant).unwrap_or_default()],
        vec!["quarantined at".to_owned(), instant(entry.quarantined_at_us)],
        vec!["replayed".to_owned(), listed.replayed.as_ref().map_or("-", outcome).to_owned()],
        vec!["key".to_owned(), entry.key.as_deref().map(lossy).unwrap_or_default()],
    ];
    for (name, value) in &entry.headers {
        rows.push(vec![format!("header {name}"), value.as_deref().map(lossy).unwrap_or_default()]);
    }
    format!("{}\n{}\n", table(&rows), entry.payload.as_deref().map(lossy).unwrap_or_default())
}
