//! `tidemill test`: data tests, unit tests, scenario tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::json;
use tidemill_ingest::rehearsal::{self, Rehearsal};
use tidemill_project::clock::Micros;
use tidemill_project::contract::{self, Vars};
use tidemill_transform::project::SentRecord;
use tidemill_transform::run::{NodeReport, Outcome, Report};
use tidemill_transform::test::{Books, Feed, FeedError, Feeder, Ground, TestOptions};

use super::build::{closing, outcome_of};
use super::progress::BuildLines;
use super::workspace::{Workspace, recorded_args};
use crate::args::{Format, GlobalArgs, TestArgs};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::signals;

/// Runs tests and says what failed, and where to look.
pub(crate) async fn run(global: &GlobalArgs, args: TestArgs, printer: Printer) -> anyhow::Result<Exit> {
    let workspace = Workspace::load(global)?;
    let selection = workspace.select(&args.selection, printer)?;
    let options = TestOptions {
        plan: workspace.plan_options(),
        full: args.full,
        fail_fast: args.fail_fast,
        store_failures: args.store_failures,
        compiled_dir: Some(workspace.target.join("compiled")),
        run_id: Some(workspace.context.run_id.clone()),
        feeder: Some(Arc::new(RealRoad)),
    };
    let cancel = signals::cancel_on_signal()?;
    let runner = &workspace.runner;
    let lines = Arc::new(BuildLines::new(printer, printer.format() != Format::Text, runner));
    let mut report = runner.test(&selection, &options, lines, &cancel).await?;
    let mut recorded = recorded_args("test", global, &args.selection);
    recorded.insert("store_failures".to_owned(), json!(args.store_failures));
    workspace.write_manifest(&BTreeMap::new(), printer);
    workspace.write_results(&report, &recorded, printer);
    printer.result(&report, &format!("{}{}", failures(&report), closing(&report)));
    Ok(outcome_of(&mut report, printer))
}

/// What did not pass, one block a test, as dbt's users know it.
pub(crate) fn failures(report: &Report) -> String {
    let mut text = String::new();
    for node in report.nodes.iter().filter(|node| matches!(node.outcome, Outcome::Fail | Outcome::Warn)) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}", block(node));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn block(node: &NodeReport) -> String {
    let verb = if node.outcome == Outcome::Warn { "Warning" } else { "Failure" };
    let mut text = format!("{verb} in test {}\n", node.name);
    let Some(facts) = &node.test else { return text };
    let mut line = |line: String| {
        let _ = writeln!(text, "  {line}");
    };
    if let Some(condition) = &facts.condition {
        let action = if node.outcome == Outcome::Warn { "warn" } else { "fail" };
        let count = node.failures.unwrap_or(0);
        let noun = if count == 1 { "result" } else { "results" };
        line(format!("got {count} {noun}, configured to {action} if {condition}"));
    }
    if let Some(message) = &node.message {
        for told in message.lines() {
            line(told.to_owned());
        }
    }
    if let Some(path) = &facts.compiled_path {
        line(format!("compiled code at {}", super::context::shown(path.as_ref())));
    }
    match &facts.stored_in {
        Some(table) => line(format!("see the failing rows: tidemill sql \"select * from {table}\"")),
        None if facts.condition.is_some() => {
            line(format!("keep the failing rows: tidemill test --select {} --store-failures", node.name));
        }
        None => {}
    }
    text
}

/// Feeds stories through the ingest of this program.
#[derive(Debug)]
struct RealRoad;

impl Feeder for RealRoad {
    fn begin(&self, ground: &Ground) -> Result<Box<dyn Feed>, FeedError> {
        let overrides: BTreeMap<String, serde_json::Value> = ground.vars.clone().into_iter().collect();
        let vars = Vars::load(&ground.models_dir, &overrides)?;
        let contracts = contract::load_dir(&ground.models_dir, &vars)?.contracts;
        let enabled = contracts.into_iter().filter(|contract| contract.enabled).collect();
        Ok(Box::new(Story { rehearsal: Rehearsal::new(enabled)?, lake: ground.lake.clone() }))
    }
}

#[derive(Debug)]
struct Story {
    rehearsal: Rehearsal,
    lake: tidemill_lake::Lake,
}

impl Feed for Story {
    fn send(&mut self, record: &SentRecord) -> bool {
        let bytes = |text: &String| text.clone().into_bytes();
        self.rehearsal.send(rehearsal::SentRecord {
            topic: record.topic.clone(),
            partition: record.partition,
            value: record.value.as_ref().map(bytes),
            key: record.key.as_ref().map(bytes),
            headers: record.headers.iter().map(|(name, value)| (name.clone(), bytes(value))).collect(),
            at_us: record.at_us,
        })
    }

    fn ingest<'a>(
        &'a mut self,
        as_of_us: Micros,
        run_id: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Books, FeedError>> + Send + 'a>> {
        Box::pin(async move {
            let report = self.rehearsal.ingest(&self.lake, as_of_us, run_id).await?;
            let mut books = Books::default();
            for source in &report.sources {
                books.landed += source.landed();
                books.duplicates += source.duplicates();
                books.tombstones += source.partitions.iter().map(|books| books.tombstones).sum::<u64>();
                books.skipped += source.partitions.iter().map(|books| books.skipped).sum::<u64>();
                for (class, count) in &source.quarantined {
                    *books.quarantined.entry((*class).to_owned()).or_default() += count;
                }
            }
            Ok(books)
        })
    }
}
