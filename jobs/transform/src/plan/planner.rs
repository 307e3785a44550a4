//! Plans one model from its own last commit and the logs of its inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemill_lake::Table;
use tidemill_lake::metadata::{Act, TransformNote};
use tidemill_project::clock::Micros;
use tidemill_project::{SourceName, TableVersion};

use super::changes::{BATCH_COLUMN, InputChange, Touched, changes_since, is_placed, touched_by};
use super::fingerprint::{Difference, compare, fingerprint};
use super::inputs::{Leaf, leaves_of, table_of};
use super::range::{RangeSet, Reach, TimeRange};
use super::windows::{Extent, Found, Horizon, named};
use super::{Action, InputDelta, ModelPlan, PlanOptions, Reads, Reason, cost};
use crate::graph::Graph;
use crate::project::{BatchSize, BatchWindow, Keeping, Model, NodeId, Project, Storage, Strategy};
use crate::run::{BuildFault, Compiler, Result, Snapshots};

/// Commits of inputs that changed no row are noted only when so many have piled up: each note is a commit, too, and
/// forgetting them costs a few log entries to read.
const MAX_UNNOTED_VERSIONS: u64 = 50;

/// Plans models of one run.
#[derive(Clone, Debug)]
pub(crate) struct Planner {
    pub project: Arc<Project>,
    pub graph: Arc<Graph>,
    pub compiler: Compiler,
    pub snapshots: Arc<Snapshots>,
    pub options: PlanOptions,
    /// The run's clock.
    pub as_of_us: Micros,
    /// W by source, not beyond the run's clock.
    pub watermarks: BTreeMap<SourceName, Micros>,
}

/// A plan and what it was made from, so that exactly this is executed.
#[derive(Debug)]
pub(crate) struct Planned {
    pub plan: ModelPlan,
    pub pinned: Pinned,
}

/// The versions that a plan was made from.
#[derive(Debug, Default)]
pub(crate) struct Pinned {
    /// The stored tables under the model; `None` for a source that nothing has landed in yet.
    pub inputs: Vec<(Leaf, Option<Arc<Table>>)>,
    /// The model's own table.
    pub own: Option<Table>,
    /// Note for the commit, all but the counts.
    pub note: TransformNote,
    /// Note of the last build.
    pub previous: Option<TransformNote>,
}

impl Pinned {
    /// Some batches are built, the rest stays as stale as the last build left it.
    fn keep(&mut self, previous: Option<TransformNote>) {
        let kept = previous.unwrap_or_default();
        self.note.inputs = kept.inputs;
        self.note.input_ids = kept.input_ids;
        self.note.model_fingerprint = kept.model_fingerprint;
        self.note.watermark_us = kept.watermark_us;
        self.note.query = kept.query;
    }
}

/// What the inputs' logs say, taken together.
#[derive(Debug, Default)]
struct Findings {
    touched: Vec<TimeRange>,
    all: bool,
    changed: Vec<NodeId>,
    rebuilt_upstream: Option<String>,
    recreated: Option<NodeId>,
    gone: Option<NodeId>,
    deltas: Vec<InputDelta>,
    unnoted_versions: u64,
}

impl Planner {
    /// Plans one model. Reads logs only. `same_sql`: the caller knows that other SQL text gives the same rows, or that the
    /// rows that are there shall stay.
    pub(crate) async fn plan_model(&self, model: &Model, same_sql: bool) -> Result<Planned> {
        let mut planned = Box::pin(self.plan_unpriced(model, same_sql)).await?;
        planned.plan.reads = cost::reads(&planned.plan.action, &planned.pinned);
        Ok(planned)
    }

    async fn plan_unpriced(&self, model: &Model, same_sql: bool) -> Result<Planned> {
        let storage = model.config.storage();
        let node = NodeId::Model(model.name.clone());
        let mut plan = ModelPlan {
            model: model.name.clone(),
            storage,
            action: Action::Inline,
            reason: Reason::Inline,
            reads: Reads::default(),
            sql_change: None,
            whole_because: None,
            inputs: BTreeMap::new(),
            after: Vec::new(),
        };
        if matches!(storage, Storage::View | Storage::Ephemeral) {
            return Ok(Planned { plan, pinned: Pinned::default() });
        }
        let table = table_of(&self.project, &node).ok_or_else(|| BuildFault::UnknownNode { node: node.clone() })?;
        let own = self.snapshots.open_fresh(&table).await?;
        let previous = match &own {
            Some(own) => last_transform(own, &model.name).await.map_err(BuildFault::lake(&table))?,
            None => None,
        };
        let mut inputs = Vec::new();
        for leaf in leaves_of(&self.project, &self.graph, model) {
            let input = self.snapshots.get(&leaf.table).await?;
            inputs.push((leaf, input));
        }

        let depends_on_watermark = self.watermark_sources(model);
        let watermark_us = self.least_watermark(model, &depends_on_watermark);
        let note = TransformNote {
            model: model.name.clone(),
            inputs: inputs
                .iter()
                .filter_map(|(leaf, input)| input.as_ref().map(|input| (leaf.table.path(), input.version().0)))
                .collect(),
            input_ids: inputs
                .iter()
                .filter_map(|(leaf, input)| {
                    input.as_ref().map(|input| (leaf.table.path(), input.table_id().to_owned()))
                })
                .collect(),
            model_fingerprint: fingerprint(model, &self.compiler.fingerprint_sql(model)?),
            batches: None,
            rows_written: 0,
            watermark_us,
            pending: Vec::new(),
            state: None,
            query: None,
            touched: None,
        };
        plan.inputs.clone_from(&note.inputs);
        let mut pinned = Pinned { inputs, own, note, previous: previous.clone() };
        if let Some(previous) = &previous {
            pinned.note.state.clone_from(&previous.state);
            pinned.note.query.clone_from(&previous.query);
        }

        let rebuild = self.reason_to_rebuild(model, &pinned, previous.as_ref(), same_sql);
        if let (Some(names), Storage::Incremental(Strategy::Microbatch)) =
            (self.options.batches.get(&model.name), storage)
        {
            return Ok(Self::plan_named(model, plan, pinned, previous, names));
        }
        if let (Some(range), Storage::Incremental(Strategy::Microbatch)) = (self.options.event_time, storage) {
            return self.plan_requested(model, plan, pinned, previous, range);
        }
        let Some(previous) = previous.filter(|_| rebuild.is_none()) else {
            plan.reason = rebuild.unwrap_or(Reason::NeverBuilt);
            plan.action = self.whole(model, &pinned)?;
            return Ok(Planned { plan, pinned });
        };

        let findings = self.look_at_inputs(&mut pinned, &previous).await?;
        plan.inputs.clone_from(&pinned.note.inputs);
        if let Some(reason) = findings.must_rebuild() {
            plan.reason = reason;
            plan.action = self.whole(model, &pinned)?;
            return Ok(Planned { plan, pinned });
        }
        let moved = (!depends_on_watermark.is_empty() && previous.watermark_us != watermark_us)
            .then_some(Reason::WatermarkMoved { from_us: previous.watermark_us, to_us: watermark_us });
        let is_pending = !previous.pending.is_empty();
        if findings.changed.is_empty() && moved.is_none() && !is_pending {
            plan.reason = Reason::UpToDate;
            plan.action = if findings.unnoted_versions > MAX_UNNOTED_VERSIONS { Action::Record } else { Action::Skip };
            return Ok(Planned { plan, pinned });
        }
        plan.reason = match (&findings.rebuilt_upstream, findings.changed.is_empty(), moved) {
            (_, true, Some(moved)) => moved,
            (_, true, None) => Reason::BatchesFailed,
            (Some(upstream), ..) => Reason::UpstreamRebuilt { upstream: upstream.clone() },
            _ => Reason::NewData { inputs: findings.changed.iter().map(NodeId::name).collect() },
        };
        plan.action = match storage {
            Storage::Incremental(Strategy::Microbatch) => self.stale_batches(
                model,
                &pinned,
                &findings,
                &previous,
                watermark_us,
                !depends_on_watermark.is_empty(),
            )?,
            Storage::Incremental(Strategy::Append) if is_plain_append(model) => {
                append(&pinned, findings).unwrap_or(Action::Whole)
            }
            _ => match model.config.keeping() {
                Some(Keeping::Upsert) => Action::Upsert,
                Some(_) => Action::Keys {
                    changes: findings.deltas,
                    due: (previous.watermark_us != watermark_us && !depends_on_watermark.is_empty())
                        .then(|| due_range(model, previous.watermark_us, watermark_us)),
                },
                None => Action::Whole,
            },
        };
        Ok(Planned { plan, pinned })
    }

    fn reason_to_rebuild(
        &self,
        model: &Model,
        pinned: &Pinned,
        previous: Option<&TransformNote>,
        same_sql: bool,
    ) -> Option<Reason> {
        let Some(previous) = previous else { return Some(Reason::NeverBuilt) };
        if model.config.full_refresh == Some(true) || (self.options.full_refresh && model.config.full_refresh.is_none())
        {
            return Some(Reason::FullRefresh);
        }
        match compare(&previous.model_fingerprint, &pinned.note.model_fingerprint) {
            Difference::None => None,
            Difference::Sql if same_sql => None,
            Difference::Sql => Some(Reason::SqlChanged),
            Difference::Configuration => Some(Reason::ConfigChanged),
        }
    }

    /// Exactly the batches of these names: those that failed in an earlier run.
    fn plan_named(
        model: &Model,
        mut plan: ModelPlan,
        mut pinned: Pinned,
        previous: Option<TransformNote>,
        names: &[String],
    ) -> Planned {
        let size = model.config.batch_size.unwrap_or(BatchSize::Day);
        let windows: BTreeSet<BatchWindow> = names.iter().filter_map(|name| size.parse_name(name)).collect();
        plan.reason = Reason::BatchesFailed;
        plan.action = Action::Batches { batches: named(size, windows), all: false };
        pinned.keep(previous);
        Planned { plan, pinned }
    }

    /// Exactly the batches that were asked for. What is stale elsewhere stays stale: the note keeps the versions of the last
    /// build, or an empty fingerprint when there was none.
    fn plan_requested(
        &self,
        model: &Model,
        mut plan: ModelPlan,
        mut pinned: Pinned,
        previous: Option<TransformNote>,
        range: TimeRange,
    ) -> Result<Planned> {
        let horizon = self.horizon(model, &pinned)?;
        if range.end_us <= horizon.begin_us || range.start_us >= self.as_of_us {
            let since = model.config.begin_us.map(|begin_us| format!("{} to ", instant_text(begin_us)));
            return Err(BuildFault::NoBatchAsked {
                model: model.name.clone(),
                asked: format!("{} to {}", instant_text(range.start_us), instant_text(range.end_us)),
                held: format!("{}{}", since.unwrap_or_else(|| "until ".to_owned()), instant_text(self.as_of_us)),
                location: Some(model.location.clone()),
            });
        }
        let (size, mut windows) = (horizon.size, horizon.all());
        drop(horizon);
        windows.retain(|window| TimeRange::from(*window).intersects(range));
        plan.reason = Reason::Requested;
        plan.action = Action::Batches { batches: named(size, windows), all: false };
        pinned.keep(previous);
        Ok(Planned { plan, pinned })
    }

    pub(crate) fn whole(&self, model: &Model, pinned: &Pinned) -> Result<Action> {
        let is_microbatch = model.config.storage() == Storage::Incremental(Strategy::Microbatch);
        if let Some(begin_us) = model.config.begin_us.filter(|begin_us| is_microbatch && *begin_us > self.as_of_us) {
            return Err(BuildFault::NoBatches {
                model: model.name.clone(),
                begin: instant_text(begin_us),
                now: instant_text(self.as_of_us),
                location: Some(model.location.clone()),
            });
        }
        if !is_microbatch || !is_cut_by_batch(model, pinned) {
            return Ok(Action::Whole);
        }
        let horizon = self.horizon(model, pinned)?;
        Ok(Action::Batches { batches: named(horizon.size, horizon.all()), all: true })
    }

    fn stale_batches(
        &self,
        model: &Model,
        pinned: &Pinned,
        findings: &Findings,
        previous: &TransformNote,
        watermark_us: Option<Micros>,
        depends_on_watermark: bool,
    ) -> Result<Action> {
        if !is_cut_by_batch(model, pinned) {
            return Ok(Action::Whole);
        }
        let horizon = self.horizon(model, pinned)?;
        let mut windows = if findings.all {
            horizon.all()
        } else {
            horizon.touched(&RangeSet::new(findings.touched.iter().copied()))
        };
        horizon.with_lookback(&mut windows, model.config.lookback);
        if depends_on_watermark && previous.watermark_us != watermark_us {
            let due = due_range(model, previous.watermark_us, watermark_us);
            // Not only batches that exist: a row may first come into being because nothing came (a missed nap).
            windows.extend(horizon.all().into_iter().filter(|window| TimeRange::from(*window).intersects(due)));
        }
        windows.extend(previous.pending.iter().filter_map(|name| horizon.size.parse_name(name)));
        windows.retain(|window| window.end_us > horizon.begin_us);
        Ok(Action::Batches { batches: named(horizon.size, windows), all: false })
    }

    fn horizon<'a>(&self, model: &Model, pinned: &'a Pinned) -> Result<Horizon<'a>> {
        let size = model.config.batch_size.unwrap_or(crate::project::BatchSize::Day);
        let extent = if model.config.begin_us.is_some() || is_surely_covered(pinned) {
            Extent::Lazy(Box::new(move || look_around(pinned, size)))
        } else {
            // Without a begin all depends on the log's knowing, so it is asked at once.
            let found = look_around(pinned, size);
            if found.coverage.is_none() {
                return Err(BuildFault::NoBegin { model: model.name.clone(), location: Some(model.location.clone()) });
            }
            Extent::Known(found)
        };
        let begin_us = model.config.begin_us.unwrap_or(i64::MIN);
        Ok(Horizon { size, begin_us, extent, until_us: self.as_of_us })
    }

    async fn look_at_inputs(&self, pinned: &mut Pinned, previous: &TransformNote) -> Result<Findings> {
        let mut findings = Findings::default();
        for (leaf, input) in &mut pinned.inputs {
            let path = leaf.table.path();
            let seen = previous.inputs.get(&path).copied();
            if input.as_ref().is_some_and(|input| seen.is_some_and(|seen| seen > input.version().0)) {
                // Another build has seen a newer version than this run's snapshot: take the newest.
                *input = self.snapshots.reopen(&leaf.table).await?;
                if let Some(input) = input {
                    pinned.note.inputs.insert(path.clone(), input.version().0);
                    pinned.note.input_ids.insert(path.clone(), input.table_id().to_owned());
                }
            }
            let Some(input) = input else {
                if seen.is_some() {
                    findings.recreated = Some(leaf.node.clone());
                }
                continue;
            };
            let change = match seen {
                Some(seen) => {
                    let seen_id = previous.input_ids.get(&path).map(String::as_str);
                    changes_since(input, TableVersion(seen), seen_id, leaf.layout.as_ref())
                        .await
                        .map_err(BuildFault::lake(&leaf.table))?
                }
                None => first_sight(input, leaf),
            };
            findings.unnoted_versions =
                findings.unnoted_versions.max(input.version().0.saturating_sub(seen.unwrap_or_default()));
            findings.add(leaf, change);
        }
        Ok(findings)
    }

    /// Sources whose W decides about rows of the model.
    fn watermark_sources(&self, model: &Model) -> Vec<SourceName> {
        let mut sources: Vec<SourceName> = model.uses.watermarks.clone();
        if let Some(rule) = &model.config.watermark {
            sources.extend(rule.sources.iter().cloned());
        }
        for ancestor in self.graph.ancestors(&NodeId::Model(model.name.clone()), None) {
            if let NodeId::Model(name) = &ancestor
                && !super::is_stored(&self.project, &ancestor)
                && let Some(view) = self.project.models.get(name)
            {
                sources.extend(view.uses.watermarks.iter().cloned());
            }
        }
        sources.sort();
        sources.dedup();
        sources
    }

    /// The least W of the sources that decide about rows; of all sources under the model when none does, for its readers.
    fn least_watermark(&self, model: &Model, deciding: &[SourceName]) -> Option<Micros> {
        let least = |sources: &mut dyn Iterator<Item = &SourceName>| {
            sources.map(|name| self.watermarks.get(name).copied()).min().flatten()
        };
        if !deciding.is_empty() {
            return least(&mut deciding.iter());
        }
        let ancestors = self.graph.ancestors(&NodeId::Model(model.name.clone()), None);
        let mut sources = ancestors.iter().filter_map(|node| match node {
            NodeId::Source(name) if self.project.sources.get(name).is_some_and(|source| source.has_contract) => {
                Some(name)
            }
            _ => None,
        });
        least(&mut sources)
    }
}

impl Findings {
    fn add(&mut self, leaf: &Leaf, change: InputChange) {
        match change {
            InputChange::Unchanged => {}
            InputChange::Recreated => self.recreated = Some(leaf.node.clone()),
            InputChange::VersionGone => self.gone = Some(leaf.node.clone()),
            InputChange::Changed { touched, added, removed } => {
                self.changed.push(leaf.node.clone());
                self.deltas.push(InputDelta { table: leaf.table.path(), added, removed });
                for reach in &leaf.reaches {
                    if let (Some(reach), Touched::Ranges(ranges)) = (reach, &touched) {
                        self.touched.extend(ranges.ranges().iter().map(|range| range.reached_through(*reach)));
                        continue;
                    }
                    self.all = true;
                    if let NodeId::Model(name) = &leaf.node {
                        self.rebuilt_upstream = Some(name.clone());
                    }
                }
            }
        }
    }

    fn must_rebuild(&self) -> Option<Reason> {
        if let Some(input) = &self.recreated {
            return Some(match input {
                NodeId::Model(name) => Reason::UpstreamRebuilt { upstream: name.clone() },
                other => Reason::InputRecreated { input: other.name() },
            });
        }
        self.gone.as_ref().map(|input| Reason::VersionGone { input: input.name() })
    }
}

/// Whether [`look_around`] will find the coverage, told without reading any statistics.
fn is_surely_covered(pinned: &Pinned) -> bool {
    let by_event_time = |leaf: &Leaf| leaf.reaches.iter().any(Option::is_some);
    let knows = |(leaf, input): &(Leaf, Option<Arc<Table>>)| match (&leaf.layout, input) {
        (Some(layout), Some(input)) if by_event_time(leaf) => input.live_files().all(|file| is_placed(file, layout)),
        _ => true,
    };
    reads_by_event_time(pinned) && pinned.inputs.iter().all(knows)
}

/// Finds the event times of the inputs and the batches of the model, in the log.
fn look_around(pinned: &Pinned, size: crate::project::BatchSize) -> Found {
    // A template that asks for its batch, over inputs without event time, has batches from `begin` to now.
    let mut coverage = reads_by_event_time(pinned).then(Vec::new);
    for (leaf, input) in &pinned.inputs {
        let (Some(layout), Some(input)) = (&leaf.layout, input) else { continue };
        for reach in leaf.reaches.iter().flatten() {
            // An unbounded reach says how far a row is felt, not that rows are made there.
            let bounded = Reach {
                before_us: if reach.before_us == i64::MAX { 0 } else { reach.before_us },
                after_us: if reach.after_us == i64::MAX { 0 } else { reach.after_us },
            };
            match touched_by(input.live_files().map(|file| file.as_data_file()), layout) {
                Touched::Ranges(ranges) => {
                    if let Some(coverage) = &mut coverage {
                        coverage.extend(ranges.ranges().iter().map(|range| range.reached_through(bounded)));
                    }
                }
                Touched::All => coverage = None,
            }
        }
    }
    let own = pinned.own.iter().flat_map(Table::live_files);
    let existing = own.filter_map(|file| size.parse_name(file.partition_value(BATCH_COLUMN)?)).collect();
    Found { coverage: coverage.map(RangeSet::new), existing }
}

/// A source that had landed nothing when the model was built last: all that it holds is new.
fn first_sight(input: &Table, leaf: &Leaf) -> InputChange {
    let files = input.files();
    if files.is_empty() {
        return InputChange::Unchanged;
    }
    let touched = leaf.layout.as_ref().map_or(Touched::All, |layout| touched_by(&files, layout));
    InputChange::Changed { touched, added: files, removed: Vec::new() }
}

/// Whether rows are only ever added. With a `unique_key` and no strategy dbt would replace rows by key, which the whole does.
fn is_plain_append(model: &Model) -> bool {
    model.config.unique_key.is_empty() || model.config.raw.contains_key("incremental_strategy")
}

/// One row in, one row out: possible when the model has one input beside its seeds, and that has only grown. With two, new
/// rows of one may join old rows of the other, and only the whole is sure.
fn append(pinned: &Pinned, findings: Findings) -> Option<Action> {
    let mut inputs = pinned.inputs.iter().filter(|(leaf, _)| !matches!(leaf.node, NodeId::Seed(_)));
    let (only, None) = (&inputs.next()?.0.table, inputs.next()) else { return None };
    let mut deltas = findings.deltas;
    match (deltas.pop(), deltas.is_empty()) {
        (Some(InputDelta { table, added, removed }), true) if table == only.path() && removed.is_empty() => {
            Some(Action::Append { input: table, files: added })
        }
        _ => None,
    }
}

/// Whether any input is read batch by batch, or the template asks which batch it is. Else every batch is a part of the same whole.
fn is_cut_by_batch(model: &Model, pinned: &Pinned) -> bool {
    model.raw_sql.contains("model.batch") || reads_by_event_time(pinned)
}

fn reads_by_event_time(pinned: &Pinned) -> bool {
    pinned.inputs.iter().any(|(leaf, _)| leaf.reaches.iter().any(Option::is_some))
}

/// `2025-03-09T12:00:00Z`.
fn instant_text(at_us: Micros) -> String {
    let at = chrono::DateTime::from_timestamp_micros(at_us);
    at.map_or_else(|| at_us.to_string(), |at| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

/// Event times of rows that may fall due when W moves: a row at `t` falls due between `t` and `t + due_after`.
fn due_range(model: &Model, from_us: Option<Micros>, to_us: Option<Micros>) -> TimeRange {
    let Some(rule) = &model.config.watermark else { return TimeRange::ALL };
    let (Some(from_us), Some(to_us)) = (from_us, to_us) else { return TimeRange::ALL };
    let due_after_us = i64::try_from(rule.due_after.as_micros()).unwrap_or(i64::MAX);
    TimeRange::new(from_us.min(to_us).saturating_sub(due_after_us), from_us.max(to_us).saturating_add(1))
}

/// The note of the model's newest build.
pub(crate) async fn last_transform(table: &Table, model: &str) -> tidemill_lake::Result<Option<TransformNote>> {
    let found =
        table.last_note(|note| matches!(&note.act, Act::Transform(transform) if transform.model == model)).await?;
    Ok(found.and_then(|(_, note)| match note.act {
        Act::Transform(transform) => Some(transform),
        _ => None,
    }))
}
