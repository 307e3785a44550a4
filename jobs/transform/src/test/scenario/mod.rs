//! Scenario tests: a lake of their own, a clock of their own, and everything in between as in production.
//!
//! | in a step | is | by |
//! | --- | --- | --- |
//! | `send` | records on topics: decoded, deduplicated, landed or put into quarantine | the [`Feeder`] that was handed in |
//! | `rows`, `update`, `delete` | rows of a source's table that come, change, go | `source` |
//! | `kill` | the process dies around a commit; a new one goes on | the lake's [`KillSwitch`] |
//! | the build, `rerun`, `full_refresh` | the models of the story with all that they stand on, and their data tests | [`Runner::build`] |
//! | `expect` | whole tables, in any order, doubles to 1e-9 | `expect` |
//!
//! The first step that does not come out as it is written ends the story.

mod expect;
mod feeder;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use tidemill_lake::{KillSwitch, Lake, Moment, TableId};
use tidemill_project::Fault;
use tidemill_project::clock::{Clock, ManualClock, Micros};
use tokio_util::sync::CancellationToken;

pub use feeder::{Books, Feed, FeedError, Feeder, Ground};

use crate::error::codes;
use crate::graph::Selection;
use crate::plan::PlanOptions;
use crate::project::{FixtureRow, Kill, NodeId, ScenarioTest, Step};
use crate::run::{BuildFault, BuildOptions, Kinds, NodeReport, Outcome, Report, Result, Runner, Silent};
use crate::{Error, LoadOptions, load_project};

/// The clock of a story that sets none: 2030-01-01T00:00:00Z, so that every event of its past may be final.
const FAR_AHEAD_US: Micros = 1_893_456_000_000_000;

/// Why a story did not come out as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Departure {
    /// Rows that differ, or 1.
    pub num_rows: u64,
    /// Which step, and how.
    pub message: String,
}

/// Tells a story; `None` when it comes out as it is written.
///
/// # Errors
/// A story that cannot be told: records without a [`Feeder`], rows that do not fit, a project that is wrong with the story's
/// variables.
pub(crate) async fn tell(
    runner: &Runner,
    test: &ScenarioTest,
    feeder: Option<&Arc<dyn Feeder>>,
) -> Result<Option<Departure>> {
    let mut stage = Stage::set(runner, test, feeder)?;
    for (index, step) in test.steps.iter().enumerate() {
        if let Some(departure) = Box::pin(stage.play(step)).await? {
            let name = step.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            let line = step.location.line;
            let message =
                format!("step {} of {}{name}, line {line}: {}", index + 1, test.steps.len(), departure.message);
            return Ok(Some(Departure { message, ..departure }));
        }
    }
    Ok(None)
}

/// A fault of a story, at its place.
fn fault(location: &tidemill_project::Location, message: impl Into<String>) -> BuildFault {
    let fault = Fault::new(message).at(location.clone()).code(codes::SCENARIO);
    Error::from_faults(vec![fault]).into()
}

/// One way in which a table departs from what the story expects.
#[expect(clippy::unnecessary_wraps, reason = "the last arm of checks that answer with an option")]
fn departed(message: impl Into<String>) -> Option<Departure> {
    Some(Departure { num_rows: 1, message: message.into() })
}

/// Where one story is told.
struct Stage<'a> {
    test: &'a ScenarioTest,
    runner: Runner,
    clock: ManualClock,
    switch: KillSwitch,
    feed: Option<Box<dyn Feed>>,
    selection: Selection,
    as_of_us: Micros,
    num_runs: u32,
    /// Rows per source over the whole story: together they settle the columns of sources that declare none.
    all_rows: BTreeMap<tidemill_project::SourceName, Vec<FixtureRow>>,
}

impl<'a> Stage<'a> {
    fn set(runner: &Runner, test: &'a ScenarioTest, feeder: Option<&Arc<dyn Feeder>>) -> Result<Self> {
        let (clock, hand) = Clock::manual(FAR_AHEAD_US, seed_of(&test.name));
        let table = TableId::Ops("scenario".to_owned());
        let (lake, switch) = Lake::rehearsal(clock).map_err(BuildFault::lake(&table))?;
        let own = stand_in(runner, test, lake.clone())?;
        let sends = test.steps.iter().flat_map(|step| &step.send).next();
        let feed = match (sends, feeder) {
            (None, _) => None,
            (Some(record), None) => {
                return Err(fault(&record.location, "records need the program's ingest, which is not at hand here"));
            }
            (Some(record), Some(feeder)) => {
                let mut vars = own.project.vars.clone();
                vars.extend(test.vars.clone());
                let ground = Ground { models_dir: own.project.root.clone(), vars, lake };
                let begun = feeder.begin(&ground);
                Some(begun.map_err(|error| {
                    fault(&record.location, format!("records cannot be fed: {}", chain(error.as_ref())))
                })?)
            }
        };
        let select = test.subjects().into_iter().filter_map(|node| match node {
            NodeId::Model(name) | NodeId::Seed(name) => Some(format!("+{name}")),
            NodeId::Source(_) | NodeId::Test(_) | NodeId::Exposure(_) => None,
        });
        let mut all_rows: BTreeMap<_, Vec<FixtureRow>> = BTreeMap::new();
        for (source, rows) in test.steps.iter().flat_map(|step| &step.rows) {
            all_rows.entry(source.clone()).or_default().extend(rows.iter().cloned());
        }
        Ok(Self {
            test,
            runner: own,
            clock: hand,
            switch,
            feed,
            selection: Selection { select: select.collect(), ..Selection::default() },
            as_of_us: FAR_AHEAD_US,
            num_runs: 0,
            all_rows,
        })
    }

    async fn play(&mut self, step: &Step) -> Result<Option<Departure>> {
        if let Some(as_of_us) = step.as_of_us {
            self.as_of_us = as_of_us;
            self.clock.set_us(as_of_us);
        }
        for (name, rows) in &step.seeds {
            self.runner = with_seed(&self.runner, name, rows)?;
        }
        for (source, rows) in &step.rows {
            let all = self.all_rows.get(source).map(Vec::as_slice).unwrap_or_default();
            source::land(&self.runner, source, rows, all, Some(self.as_of_us)).await?;
        }
        for rewrite in step.delete.iter().chain(&step.update) {
            source::rewrite(&self.runner, rewrite).await?;
        }
        let mut kill = step.kill.as_ref();
        if let Some(kill) = kill {
            self.arm(kill)?;
        }
        let mut books = Books::default();
        if let Some(departure) = self.ingest(step, &mut kill, &mut books).await? {
            return Ok(Some(departure));
        }
        let has_work = self.has_models() && step.build;
        if has_work && let Some(departure) = Box::pin(self.build(&mut kill, false)).await? {
            return Ok(Some(departure));
        }
        if let Some(kill) = kill {
            // The switch must not strike in a later step.
            let _ = self.switch.restart();
            self.switch.disarm();
            return Ok(departed(format!("nothing was committed to `{}`, so the kill never came", kill.node.name())));
        }
        if let Some(departure) = expect::books(step, &books) {
            return Ok(Some(departure));
        }
        if let Some(departure) = self.compare(step).await? {
            return Ok(Some(departure));
        }
        if step.rerun
            && let Some(departure) = self.rerun().await?
        {
            return Ok(Some(departure));
        }
        if step.full_refresh
            && let Some(departure) = self.full_refresh().await?
        {
            return Ok(Some(departure));
        }
        Ok(None)
    }

    fn has_models(&self) -> bool {
        !self.selection.select.is_empty()
    }

    fn arm(&self, kill: &Kill) -> Result<()> {
        let Some(id) = self.runner.table_of(&kill.node) else {
            return Err(fault(&kill.location, format!("nothing is ever committed to it, name=`{}`", kill.node.name())));
        };
        self.switch.arm(&id, if kill.after_commit { Moment::AfterCommit } else { Moment::BeforeCommit });
        Ok(())
    }

    /// Sends the step's records and brings them in. A kill that strikes is survived by a second process.
    async fn ingest(&mut self, step: &Step, kill: &mut Option<&Kill>, books: &mut Books) -> Result<Option<Departure>> {
        let Some(feed) = &mut self.feed else { return Ok(None) };
        for record in &step.send {
            if !feed.send(record) {
                return Err(fault(&record.location, format!("no source reads the topic, topic=`{}`", record.topic)));
            }
        }
        loop {
            self.num_runs += 1;
            let run_id = format!("scenario/{}", self.num_runs);
            match feed.ingest(self.as_of_us, &run_id).await {
                Ok(more) => {
                    books.add(more);
                    return Ok(None);
                }
                Err(error) => {
                    if !self.switch.restart() {
                        return Ok(departed(format!("ingest failed: {}", chain(error.as_ref()))));
                    }
                    self.switch.disarm();
                    *kill = None;
                }
            }
        }
    }

    async fn build(&mut self, kill: &mut Option<&Kill>, full_refresh: bool) -> Result<Option<Departure>> {
        let mut report = self.run(full_refresh).await?;
        if self.switch.restart() {
            self.switch.disarm();
            *kill = None;
            report = self.run(full_refresh).await?;
        }
        Ok(failed(&report))
    }

    async fn run(&mut self, full_refresh: bool) -> Result<Report> {
        self.num_runs += 1;
        let plan = PlanOptions { as_of_us: Some(self.as_of_us), full_refresh, ..PlanOptions::default() };
        let options = BuildOptions {
            plan,
            kinds: Kinds::ALL,
            unit_tests: false,
            run_id: Some(format!("scenario/{}", self.num_runs)),
            ..BuildOptions::default()
        };
        let cancel = CancellationToken::new();
        let built = Box::pin(self.runner.build(&self.selection, &options, Arc::new(Silent), &cancel)).await;
        match built {
            Ok(report) => Ok(report),
            // The end of a process that was killed before its first node was done.
            Err(error) if self.switch.is_dead() => Ok(Report {
                run_id: String::new(),
                as_of_us: self.as_of_us,
                elapsed_ms: 0,
                nodes: vec![NodeReport::failed(&NodeId::Test(self.test.name.clone()), error)],
            }),
            Err(error) => Err(error.into_fault()),
        }
    }

    async fn rerun(&mut self) -> Result<Option<Departure>> {
        let report = self.run(false).await?;
        if let Some(departure) = failed(&report) {
            return Ok(Some(departure));
        }
        let wrote: Vec<&str> =
            report.nodes.iter().filter(|node| node.rows_written > 0).map(|node| node.name.as_str()).collect();
        Ok(if wrote.is_empty() { None } else { departed(format!("a second build wrote rows: {}", wrote.join(", "))) })
    }

    async fn full_refresh(&mut self) -> Result<Option<Departure>> {
        let nodes = self.runner.graph.select(&self.selection)?;
        let stored: Vec<NodeId> = nodes
            .into_iter()
            .filter(|node| matches!(node, NodeId::Model(_)) && self.runner.table_of(node).is_some())
            .collect();
        let mut before = Vec::new();
        for node in &stored {
            before.push(expect::rows_of(&self.runner, self.as_of_us, node, None).await?);
        }
        if let Some(departure) = self.build(&mut None, true).await? {
            return Ok(Some(departure));
        }
        for (node, before) in stored.iter().zip(before) {
            let after = expect::rows_of(&self.runner, self.as_of_us, node, None).await?;
            if let Some(difference) = crate::test::compare::compare(&before, &after) {
                let message = format!(
                    "`{}` holds other rows than a full refresh makes; expected is the full refresh\n{}",
                    node.name(),
                    difference.text
                );
                return Ok(Some(Departure { num_rows: difference.num_rows, message }));
            }
        }
        Ok(None)
    }

    async fn compare(&self, step: &Step) -> Result<Option<Departure>> {
        for expected in &step.expect {
            if let Some(departure) = expect::table(&self.runner, self.as_of_us, expected).await? {
                return Ok(Some(departure));
            }
        }
        Ok(None)
    }
}

/// The seed of a story's ids. Each story has its own: the engine remembers what it has read of a file by the file's path, and
/// the lakes of all stories lie in one place.
fn seed_of(name: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(name, &mut hasher);
    std::hash::Hasher::finish(&hasher)
}

/// The story's own runner: its lake, and its variables where it has any.
fn stand_in(runner: &Runner, test: &ScenarioTest, lake: Lake) -> Result<Runner> {
    if test.vars.is_empty() && test.env_vars.is_empty() {
        return Ok(Runner { lake, ..runner.clone() });
    }
    let project = &runner.project;
    let mut vars = project.vars.clone();
    vars.extend(test.vars.clone());
    let mut env = project.env.0.clone();
    env.extend(test.env_vars.clone());
    let project =
        load_project(&project.root, LoadOptions { vars, env, target: project.target.clone(), strict: project.strict })?;
    Runner::new(project, lake, runner.engine.clone(), runner.threads).map_err(crate::run::BuildError::into_fault)
}

/// The runner with other rows in a seed.
fn with_seed(runner: &Runner, name: &str, rows: &[FixtureRow]) -> Result<Runner> {
    let mut project = (*runner.project).clone();
    if let Some(seed) = project.seeds.get_mut(name) {
        let text = csv_of(rows, seed.delimiter);
        seed.text = Some(text.unwrap_or_else(|| header_of(&seed.path)));
    }
    Runner::new(project, runner.lake.clone(), runner.engine.clone(), runner.threads)
        .map_err(crate::run::BuildError::into_fault)
}

/// Rows as the text of a seed; `None` when there are none, and so no columns.
fn csv_of(rows: &[FixtureRow], delimiter: char) -> Option<String> {
    let columns: Vec<&String> = rows.first()?.cells.iter().map(|(name, _)| name).collect();
    let mut writer =
        csv::WriterBuilder::new().delimiter(u8::try_from(delimiter).unwrap_or(b',')).from_writer(Vec::new());
    writer.write_record(&columns).ok()?;
    for row in rows {
        let cells = columns.iter().map(|column| match row.cells.iter().find(|(name, _)| name == *column) {
            None | Some((_, Json::Null)) => String::new(),
            Some((_, Json::String(text))) => text.clone(),
            Some((_, other)) => other.to_string(),
        });
        writer.write_record(cells).ok()?;
    }
    String::from_utf8(writer.into_inner().ok()?).ok()
}

/// A seed without rows still has its columns.
fn header_of(path: &std::path::Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().map(|line| format!("{line}\n")).unwrap_or_default()
}

/// The first node of a build that went wrong.
fn failed(report: &Report) -> Option<Departure> {
    let bad = report.nodes.iter().find(|node| matches!(node.outcome, Outcome::Error | Outcome::Fail))?;
    let failures = bad.failures.map(|count| format!(", {count} rows found")).unwrap_or_default();
    let hint = bad
        .error
        .as_ref()
        .and_then(tidemill_project::Diagnostic::hint)
        .map(|hint| format!(" ({hint})"))
        .unwrap_or_default();
    let message = bad.message.as_deref().map(|message| format!(": {message}{hint}")).unwrap_or_default();
    departed(format!("{} failed in the build{failures}{message}", bad.node))
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        at = source.source();
    }
    text
}
