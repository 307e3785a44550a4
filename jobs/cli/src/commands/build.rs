//! `tidemill build | run-models`

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Map, Value as Json, json};
use tidemill_transform::Runner;
use tidemill_transform::graph::{Indirect, Selection};
use tidemill_transform::plan::{Action, Plan, PlanFile, PlanOptions, TimeRange};
use tidemill_transform::run::{BuildOptions, Kinds, Outcome, Report};

use super::context::{Context, instant};
use super::meter::{Exposition, Meter};
use super::progress::BuildLines;
use super::test::failures;
use super::workspace::{Workspace, recorded_args};
use crate::args::{BuildArgs, Format, GlobalArgs, IndirectArg, MetricsArgs, SelectArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table, thousands};
use crate::report::UsageError;
use crate::signals;

/// Builds what is stale and tests it.
pub(crate) async fn run(global: &GlobalArgs, args: BuildArgs, printer: Printer) -> anyhow::Result<Exit> {
    run_kinds(global, args, Kinds::ALL, printer).await
}

/// `build` and `run-models`.
pub(crate) async fn run_kinds(
    global: &GlobalArgs,
    args: BuildArgs,
    kinds: Kinds,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let workspace = Workspace::load(global)?;
    if let Some(path) = &args.plan {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read a plan, path=`{}`", path.display()))?;
        let file = PlanFile::parse(&path.display().to_string(), &text)?;
        let selection = file.selection();
        let options = BuildOptions {
            plan: file.options(),
            kinds,
            fail_fast: args.fail_fast,
            run_id: Some(workspace.context.run_id.clone()),
            ..BuildOptions::default()
        };
        let recorded = recorded_args("build", global, &args.selection);
        return Box::pin(build_in(&workspace, &selection, &options, recorded, &args.metrics, printer)).await;
    }
    let plan = PlanOptions {
        full_refresh: args.full_refresh,
        event_time: event_time(args.event_time_start.as_deref(), args.event_time_end.as_deref())?,
        ..workspace.plan_options()
    };
    let selection = workspace.select(&args.selection, printer)?;
    if args.dry_run {
        let plan = workspace.runner.plan(&selection, &plan).await?;
        printer.result(&plan, &plan_text(&plan));
        return Ok(Exit::Done);
    }
    let options = BuildOptions {
        plan,
        kinds,
        fail_fast: args.fail_fast,
        run_id: Some(workspace.context.run_id.clone()),
        ..BuildOptions::default()
    };
    let mut recorded =
        recorded_args(if kinds == Kinds::MODELS { "run-models" } else { "build" }, global, &args.selection);
    recorded.insert("full_refresh".to_owned(), json!(args.full_refresh));
    recorded.insert("event_time_start".to_owned(), json!(args.event_time_start));
    recorded.insert("event_time_end".to_owned(), json!(args.event_time_end));
    Box::pin(build_in(&workspace, &selection, &options, recorded, &args.metrics, printer)).await
}

/// Builds, prints the report and leaves the artifacts; used by all verbs that work on nodes.
pub(crate) async fn build_in(
    workspace: &Workspace,
    selection: &Selection,
    options: &BuildOptions,
    args: Map<String, Json>,
    metrics: &MetricsArgs,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let cancel = signals::cancel_on_signal()?;
    let runner = &workspace.runner;
    let lines = Arc::new(BuildLines::new(printer, printer.format() != Format::Text, runner));
    let meter = Meter::new(&workspace.context);
    let exposition = Exposition::start(metrics, &meter, &workspace.context, None, printer).await?;
    let observer = meter.build(runner, lines);
    let manifest = workspace.prepare_manifest();
    let mut report = runner.build(selection, options, observer, &cancel).await?;
    workspace.write_prepared(manifest, printer).await;
    workspace.write_results(&report, &args, printer);
    printer.result(&report, &format!("{}{}", failures(&report), closing(&report)));
    let exit = outcome_of(&mut report, printer);
    if exit == Exit::Done {
        meter.succeeded("build");
    }
    exposition.finish(&workspace.context, exit == Exit::Done).await?;
    Ok(exit)
}

/// dbt's last lines: what was done, how long it took, how many nodes ended how.
pub(crate) fn closing(report: &Report) -> String {
    if report.nodes.is_empty() {
        return "Nothing to do: the selection holds no node that this command works on.\n".to_owned();
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &report.nodes {
        *kinds.entry(node.kind).or_default() += 1;
    }
    let told: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| format!("{count} {}{}", kind.replace('_', " "), if *count == 1 { "" } else { "s" }))
        .collect();
    let count = |outcomes: &[Outcome]| outcomes.iter().map(|outcome| report.count(*outcome)).sum::<usize>();
    let rows: u64 = report.nodes.iter().map(|node| node.rows_written).sum();
    let seconds = report.elapsed_ms / 1000;
    let hundredths = report.elapsed_ms % 1000 / 10;
    format!(
        "\nFinished running {} in {seconds}.{hundredths:02}s, {} rows written.\nDone. PASS={} WARN={} ERROR={} SKIP={} TOTAL={}\n",
        told.join(", "),
        thousands(rows),
        count(&[Outcome::Success, Outcome::UpToDate, Outcome::Pass]),
        count(&[Outcome::Warn]),
        count(&[Outcome::Fail, Outcome::Error]),
        count(&[Outcome::Skipped]),
        report.nodes.len(),
    )
}

/// The exit code of a report; errors are printed with their places and hints.
pub(crate) fn outcome_of(report: &mut Report, printer: Printer) -> Exit {
    for node in &mut report.nodes {
        if let Some(error) = node.error.take() {
            let exit = Exit::from(tidemill_project::Diagnostic::kind(&error));
            printer.error(&anyhow::Error::new(error));
            return exit;
        }
    }
    if report.count(Outcome::Fail) > 0 { Exit::Rejected } else { Exit::Done }
}

/// One line for a cycle: how many nodes ended how.
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
    let indirect = match args.indirect_selection {
        IndirectArg::Eager => Indirect::Eager,
        IndirectArg::Cautious => Indirect::Cautious,
        IndirectArg::Buildable => Indirect::Buildable,
        IndirectArg::Empty => Indirect::Empty,
    };
    Selection {
        select: args.select,
        exclude: args.exclude,
        selector: args.selector,
        resource_types: args.resource_type,
        exclude_resource_types: args.exclude_resource_type,
        indirect,
        ..Selection::default()
    }
}

pub(crate) fn event_time(start: Option<&str>, end: Option<&str>) -> anyhow::Result<Option<TimeRange>> {
    match (start, end) {
        (None, None) => Ok(None),
        (Some(start), Some(end)) => {
            let (start_us, end_us) = (bound("--event-time-start", start)?, bound("--event-time-end", end)?);
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

/// An instant, or a date, which is its midnight in UTC as in dbt.
fn bound(flag: &str, text: &str) -> anyhow::Result<i64> {
    instant(text).map_err(|error| UsageError { message: format!("{flag}: {error}") }.into())
}

pub(crate) fn plan_text(plan: &Plan) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(start: &str, end: &str) -> String {
        match event_time(Some(start), Some(end)) {
            Ok(Some(range)) => format!("{} to {}", range.start_us, range.end_us),
            Ok(None) => "all".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn event_times_are_dates_or_instants_with_a_zone() {
        assert_eq!(told("2025-03-09", "2025-03-10T02:00:00+02:00"), "1741478400000000 to 1741564800000000");
        assert_eq!(
            told("2026-01-01T00:00:00", "2026-01-02"),
            "--event-time-start: `2026-01-01T00:00:00` has no time zone; write it like 2025-03-09T12:00:00Z"
        );
        assert_eq!(
            told("2026-01-01", "2026-02-30"),
            "--event-time-end: `2026-02-30` is no instant; write it like 2025-03-09T12:00:00Z"
        );
        assert_eq!(told("2026-01-02", "2026-01-02"), "--event-time-start must be before --event-time-end");
    }
}
