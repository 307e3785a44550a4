//! `tidemill build`

use std::sync::Arc;

use anyhow::Context as _;
use tidemill_transform::Runner;
use tidemill_transform::graph::Selection;
use tidemill_transform::plan::{Action, Plan, PlanFile, PlanOptions, TimeRange};
use tidemill_transform::run::{BuildOptions, Kinds, Outcome, Report};

use super::context::{Context, instant};
use super::progress::BuildLines;
use crate::args::{BuildArgs, Format, GlobalArgs, SelectArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table, thousands};
use crate::report::UsageError;
use crate::signals;

/// Builds what is stale and tests it.
pub(crate) async fn run(global: &GlobalArgs, args: BuildArgs, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let runner = runner(&context)?;
    if let Some(path) = &args.plan {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read a plan, path=`{}`", path.display()))?;
        let plan = PlanFile::parse(&path.display().to_string(), &text)?;
        let selection = plan.selection();
        let options =
            BuildOptions { plan: plan.options(), run_id: Some(context.run_id.clone()), ..BuildOptions::default() };
        return build(&runner, &selection, &options, printer).await;
    }
    let plan = PlanOptions {
        full_refresh: args.full_refresh,
        as_of_us: context.as_of_us,
        event_time: event_time(args.event_time_start.as_deref(), args.event_time_end.as_deref())?,
        ..PlanOptions::default()
    };
    let selection = selection(args.selection);
    if args.dry_run {
        let plan = runner.plan(&selection, &plan).await?;
        printer.result(&plan, &plan_text(&plan));
        return Ok(Exit::Done);
    }
    let options = BuildOptions { plan, run_id: Some(context.run_id.clone()), ..BuildOptions::default() };
    build(&runner, &selection, &options, printer).await
}

/// Builds and prints the report; used by `seed` and `test` as well.
pub(crate) async fn build(
    runner: &Runner,
    selection: &Selection,
    options: &BuildOptions,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let cancel = signals::cancel_on_signal()?;
    let lines = Arc::new(BuildLines::new(printer, printer.format() != Format::Text));
    let mut report = runner.build(selection, options, lines, &cancel).await?;
    printer.result(&report, &summary(&report, options.kinds));
    Ok(outcome_of(&mut report, printer))
}

/// The exit code of a report; errors are printed with their places and hints.
pub(crate) fn outcome_of(report: &mut Report, printer: Printer) -> Exit {
    for node in &mut report.nodes {
        if let Some(error) = node.error.take() {
            let exit = Exit::from(tidemill_project::Diagnostic::kind(&error));
            printer.error(&crate::report::render(&anyhow::Error::new(error)));
            return exit;
        }
    }
    if report.count(Outcome::Fail) > 0 { Exit::Rejected } else { Exit::Done }
}

/// The last line: how many nodes ended how.
pub(crate) fn summary(report: &Report, kinds: Kinds) -> String {
    let rows: u64 = report.nodes.iter().map(|node| node.rows_written).sum();
    let mut parts = Vec::new();
    for (outcome, word) in [
        (Outcome::Success, "built"),
        (Outcome::UpToDate, "fresh"),
        (Outcome::Pass, "tests passed"),
        (Outcome::Warn, "warnings"),
        (Outcome::Fail, "tests failed"),
        (Outcome::Error, "errors"),
        (Outcome::Skipped, "skipped"),
    ] {
        let count = report.count(outcome);
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    let verb = if kinds == Kinds::TESTS { "test" } else { "build" };
    let seconds = report.elapsed_ms / 1000;
    let tenths = report.elapsed_ms % 1000 / 100;
    let counts = if parts.is_empty() { "nothing selected".to_owned() } else { parts.join(", ") };
    format!("{verb}: {counts}; {} rows written in {seconds}.{tenths} s\n", thousands(rows))
}

/// The runner of a context's project.
pub(crate) fn runner(context: &Context) -> anyhow::Result<Runner> {
    let threads = context.settings.transform.threads;
    Ok(Runner::new(context.models()?, context.lake.clone(), context.engine(), threads)?)
}

/// Selectors as typed.
pub(crate) fn selection(args: SelectArgs) -> Selection {
    Selection { select: args.select, exclude: args.exclude }
}

fn event_time(start: Option<&str>, end: Option<&str>) -> anyhow::Result<Option<TimeRange>> {
    match (start, end) {
        (None, None) => Ok(None),
        (Some(start), Some(end)) => {
            let (start_us, end_us) = (instant(start)?, instant(end)?);
            if start_us >= end_us {
                return Err(
                    UsageError { message: "--event-time-start must be before --event-time-end".to_owned() }.into()
                );
            }
            Ok(Some(TimeRange { start_us, end_us }))
        }
        _ => Err(UsageError { message: "--event-time-start and --event-time-end go together".to_owned() }.into()),
    }
}

fn plan_text(plan: &Plan) -> String {
    let mut rows = vec![["model", "action", "because", "reads"].map(str::to_owned).to_vec()];
    for model in &plan.models {
        let action = match &model.action {
            Action::Inline => "view".to_owned(),
            Action::Skip => "nothing".to_owned(),
            Action::Record => "note input versions".to_owned(),
            Action::Whole => "rebuild".to_owned(),
            Action::Batches { batches, .. } => match batches.as_slice() {
                [] => "no batches".to_owned(),
                [only] => format!("1 batch ({})", only.name),
                [first, .., last] => format!("{} batches ({} to {})", batches.len(), first.name, last.name),
            },
            Action::Append { files, .. } => format!("append {} files", files.len()),
            Action::Keys { .. } => "keys that changed rows touch".to_owned(),
            Action::Upsert => "incremental SQL, by key".to_owned(),
        };
        let mut because = model.reason.to_string();
        if let Some(change) = &model.sql_change {
            because.push_str(&format!(" ({change})"));
        }
        if !model.after.is_empty() {
            because.push_str(&format!("; planned again after {}", model.after.join(", ")));
        }
        let reads = match model.reads.files {
            0 => String::new(),
            files => format!("{} files, {}", thousands(files), bytes(model.reads.bytes)),
        };
        rows.push(vec![model.model.clone(), action, because, reads]);
    }
    table(&rows)
}

/// Bytes for people: three digits are enough.
fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{} kB", count / 1_000),
        1_000_000..1_000_000_000 => format!("{}.{} MB", count / 1_000_000, count % 1_000_000 / 100_000),
        _ => format!("{}.{} GB", count / 1_000_000_000, count % 1_000_000_000 / 100_000_000),
    }
}
