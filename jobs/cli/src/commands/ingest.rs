//! `tidemill ingest`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;
use tidemill_ingest::status::SourceStatus;
use tidemill_ingest::{IngestReport, IngestRequest, Mode, SourceReport};
use tidemill_project::config::OnGap;
use tidemill_project::contract::Contract;

use super::context::Context;
use super::meter::{Exposition, Meter};
use super::progress::Progress;
use crate::args::{GlobalArgs, IngestArgs, OnGapArg};
use crate::exit::Exit;
use crate::printer::{Printer, table, thousands};
use crate::report::UsageError;
use crate::signals;

/// Pulls topics or files into raw tables.
pub(crate) async fn run(global: &GlobalArgs, args: IngestArgs, printer: Printer) -> anyhow::Result<Exit> {
    let mut context = Context::load(global)?;
    if let Some(on_gap) = args.on_gap {
        context.settings.ingest.on_gap = match on_gap {
            OnGapArg::Stop => OnGap::Stop,
            OnGapArg::Skip => OnGap::Skip,
        };
    }
    let mut contracts = context.selected_contracts(&args.select)?;
    if args.from_files.is_empty() && contracts.iter().any(|contract| !contract.topics.is_empty()) {
        // Sources that only files feed come along with a system; alone, one is refused with the reason.
        contracts.retain(|contract| !contract.topics.is_empty());
    }
    if contracts.is_empty() {
        let message =
            "the project declares no source with `config.meta.tidemill`, so there is nothing to ingest".to_owned();
        return Err(UsageError { message }.into());
    }
    if args.dry_run {
        return preview(&context, &contracts, &args.from_files, printer).await;
    }
    let cancel = signals::cancel_on_signal()?;
    let progress = Progress::new(printer);
    let meter = Meter::new(&context);
    let exposition = Exposition::start(&args.metrics, &meter, &context, Some(contracts.clone()), printer).await?;
    let observer = meter.ingest(Arc::new(progress.clone()));
    let mut report = if args.from_files.is_empty() {
        let request = IngestRequest {
            contracts,
            mode: if args.follow { Mode::Follow } else { Mode::Drain },
            max_records: args.max_records,
            max_duration: args.max_duration,
            run_id: context.run_id.clone(),
            as_of_us: context.as_of_us,
        };
        tidemill_ingest::ingest(&context.settings, &context.lake, request, observer, cancel).await?
    } else {
        let contract = only(&contracts)?;
        let files = files_of(&args.from_files)?;
        Box::pin(tidemill_ingest::ingest_files(
            &context.settings,
            &context.lake,
            contract,
            files,
            context.run_id.clone(),
            observer,
            cancel,
        ))
        .await?
    };
    progress.clear();
    show(&report, &context.run_id, printer);
    let error = report.take_error();
    if error.is_none() {
        meter.succeeded("ingest");
    }
    exposition.finish(&context, error.is_none()).await?;
    match error {
        Some(error) => Err(error.into()),
        None => Ok(Exit::Done),
    }
}

/// The one source that files feed.
fn only(contracts: &[Contract]) -> anyhow::Result<&Contract> {
    let [contract] = contracts else {
        let names: Vec<String> = contracts.iter().map(|contract| contract.name.to_string()).collect();
        let message =
            format!("--from-files feeds one source; choose it with --select, there are: {}", names.join(", "));
        return Err(UsageError { message }.into());
    };
    Ok(contract)
}

/// What a run would read: offsets between the lake and the ends of the partitions, or files beyond what the lake has of them.
async fn preview(
    context: &Context,
    contracts: &[Contract],
    patterns: &[String],
    printer: Printer,
) -> anyhow::Result<Exit> {
    if !patterns.is_empty() {
        let contract = only(contracts)?;
        let files = tidemill_ingest::preview_files(&context.lake, contract, files_of(patterns)?).await?;
        let mut rows = vec![["file", "records in the lake"].map(str::to_owned).to_vec()];
        rows.extend(files.iter().map(|file| vec![file.path.clone(), file.records.map_or("-".to_owned(), thousands)]));
        printer.result(&json!({ "dry_run": true, "source": contract.name.to_string(), "files": files }), &table(&rows));
        return Ok(Exit::Done);
    }
    if context.settings.kafka.is_none() {
        // The same fault, with the same way out, as that of the run itself.
        let request = IngestRequest {
            contracts: contracts.to_vec(),
            mode: Mode::Drain,
            max_records: None,
            max_duration: None,
            run_id: context.run_id.clone(),
            as_of_us: context.as_of_us,
        };
        let observer = Arc::new(tidemill_ingest::NoObserver);
        let cancel = tokio_util::sync::CancellationToken::new();
        tidemill_ingest::ingest(&context.settings, &context.lake, request, observer, cancel).await?;
    }
    let sources = offsets_ahead(context, contracts, printer).await?;
    printer.result(&json!({ "dry_run": true, "sources": sources }), &offsets_text(&sources));
    Ok(Exit::Done)
}

/// Where sources stand and where their topics end. A broker that does not answer is said on stderr.
pub(crate) async fn offsets_ahead(
    context: &Context,
    contracts: &[Contract],
    printer: Printer,
) -> anyhow::Result<Vec<SourceStatus>> {
    let mut sources = Vec::new();
    for contract in contracts {
        let source = tidemill_ingest::status::status(&context.settings, &context.lake, contract).await?;
        if let Some(fault) = &source.broker_fault {
            printer.note(&format!("warning: {}: the broker was not asked: {fault}", source.source));
        }
        sources.push(source);
    }
    Ok(sources)
}

/// The same as a table of partitions.
pub(crate) fn offsets_text(sources: &[SourceStatus]) -> String {
    let mut rows = vec![["source", "partition", "from", "to", "records"].map(str::to_owned).to_vec()];
    for source in sources {
        for of in &source.partitions {
            let number = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
            rows.push(vec![
                source.source.clone(),
                format!("{}/{}", of.topic, of.partition),
                number(of.next),
                number(of.end),
                of.lag.map_or_else(|| "?".to_owned(), thousands),
            ]);
        }
    }
    table(&rows)
}

/// The files that globs name, sorted; a pattern that names none is an error.
fn files_of(patterns: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for pattern in patterns {
        let before = files.len();
        for path in glob::glob(pattern).with_context(|| format!("`{pattern}` is no pattern of files"))? {
            files.push(path.with_context(|| format!("failed to look for files, pattern=`{pattern}`"))?);
        }
        if files.len() == before {
            return Err(UsageError { message: format!("no file matches `{pattern}`") }.into());
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn show(report: &IngestReport, run_id: &str, printer: Printer) {
    let mut rows =
        vec![["source", "version", "commits", "landed", "duplicates", "quarantined"].map(str::to_owned).to_vec()];
    for source in &report.sources {
        rows.push(vec![
            source.source.to_string(),
            source.version.to_string(),
            thousands(source.commits),
            thousands(source.landed()),
            thousands(source.duplicates()),
            thousands(source.quarantined()),
        ]);
    }
    for source in &report.sources {
        if let Some(note) = quarantine_note(source) {
            printer.note(&note);
        }
        for warning in &source.warnings {
            printer.note(&format!("warning: {}: {warning}", source.source));
        }
        // The first error is printed with its hint when the command ends.
        for error in source.errors.iter().skip(1) {
            printer.note(&format!("error: {}: {error}", source.source));
        }
    }
    printer.result(&json!({ "run_id": run_id, "sources": report.sources }), &table(&rows));
}

/// How many records went to quarantine and why, most first, and where they can be looked at.
fn quarantine_note(source: &SourceReport) -> Option<String> {
    let mut classes: Vec<_> = source.quarantined.iter().filter(|(_, count)| **count > 0).collect();
    if classes.is_empty() {
        return None;
    }
    classes.sort_by_key(|(class, count)| (std::cmp::Reverse(**count), **class));
    let classes: Vec<String> =
        classes.into_iter().map(|(class, count)| format!("{class} {}", thousands(*count))).collect();
    let name = &source.source;
    Some(format!("{name}: quarantined {}; tidemill quarantine list --select {name}", classes.join(", ")))
}
