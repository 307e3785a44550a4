//! Batches of event time: which of them share a query, how they run side by side, what becomes of one that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use tidemill_lake::Table;
use tidemill_project::{Diagnostic as _, ErrorKind};

use super::cut::Cut;
use super::execute::Job;
use super::neighbours::may_share_a_query;
use super::prepared::{Prepared, Query};
use super::rows::{Canonical, canonical, event_times};
use super::session::{beside, register};
use super::writer::{Staged, Writer};
use super::{BuildFault, Observer, Result};
use crate::plan::{Leaf, PlannedBatch, Touched, event_time_of, named, touched_by};
use crate::project::{BatchSize, BatchWindow};
use crate::render::RenderContext;

/// Input rows that one query over several batches brings together: its output is sorted in memory.
const MAX_QUERY_ROWS: u64 = 1_000_000;
/// Planning a query costs about what 50,000 rows cost; more batches than this gain nothing.
const MAX_QUERY_BATCHES: usize = 96;
/// So often a batch is computed whose store does not answer.
const MAX_BATCH_ATTEMPTS: u32 = 3;
/// Wait before the second time; doubled for the third.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// What the rows of a model look like, and how many batches of them go through memory at once.
pub(super) struct Shape {
    pub(super) schema: SchemaRef,
    pub(super) batches_per_query: usize,
}

/// What the batches of one build are computed over.
#[derive(Clone, Copy)]
struct Over<'a> {
    base: &'a SessionContext,
    schema: &'a SchemaRef,
    /// The query of all of them.
    prepared: Option<&'a Prepared>,
    /// How many are computed at a time.
    side_by_side: usize,
    /// Where their rows go.
    writer: &'a Writer,
}

/// Cuts ascending batches into runs of at most `most` neighbours without a gap.
fn neighbours(batches: &[PlannedBatch], most: usize) -> Vec<&[PlannedBatch]> {
    let mut groups = Vec::new();
    let mut from = 0;
    for index in 1..=batches.len() {
        let goes_on = batches
            .get(index)
            .is_some_and(|next| next.window.start_us == batches[index - 1].window.end_us && index - from < most.max(1));
        if !goes_on {
            groups.push(&batches[from..index]);
            from = index;
        }
    }
    groups
}

/// As many batches as bring about [`MAX_QUERY_ROWS`] input rows, were these spread evenly.
pub(super) fn batches_per_query(inputs: &[(Leaf, Option<Arc<Table>>)], size: BatchSize) -> usize {
    let mut num_rows = 0;
    let mut num_batches = 1;
    for (leaf, input) in inputs {
        let (Some(layout), Some(input)) = (&leaf.layout, input) else { continue };
        num_rows += input.live_files().map(|file| file.num_records().unwrap_or(0)).sum::<u64>();
        if let Touched::Ranges(ranges) = touched_by(input.live_files().map(|file| file.as_data_file()), layout) {
            let count = ranges.ranges().iter().flat_map(|range| size.windows(range.start_us, range.end_us)).count();
            num_batches = num_batches.max(count as u64);
        }
    }
    let rows_per_batch = (num_rows / num_batches).max(1);
    usize::try_from(MAX_QUERY_ROWS / rows_per_batch).unwrap_or(MAX_QUERY_BATCHES).clamp(1, MAX_QUERY_BATCHES)
}

impl Job<'_> {
    /// All batches of a model whose inputs have no event time, and which are therefore parts of one query. When that fails each
    /// is computed alone, as far as the query tells which there are.
    pub(super) async fn write_whole(
        &self,
        base: &SessionContext,
        shape: &Shape,
        writer: &mut Writer,
        observer: &dyn Observer,
    ) -> Result<()> {
        let whole = self.collect(self.frame(base).await?, &shape.schema).await;
        let fault = match whole {
            Ok(rows) => {
                for (name, rows) in self.split(rows).await? {
                    writer.replace(Some(name), rows).await?;
                }
                return Ok(());
            }
            Err(fault) => fault,
        };
        let batches = if self.may_leave { self.batches_there(base).await.unwrap_or_default() } else { Vec::new() };
        if batches.len() < 2 {
            return Err(fault);
        }
        self.write_batches(base, &batches, false, shape, writer, observer).await
    }

    /// The batches that the query has rows for. Only event times are computed, so that what fails in another column does not
    /// fail here.
    async fn batches_there(&self, base: &SessionContext) -> Result<Vec<PlannedBatch>> {
        let size = self.model.config.batch_size.unwrap_or(BatchSize::Day);
        let begin_us = self.model.config.begin_us.unwrap_or(i64::MIN);
        let column = self.event_time()?;
        let times = self.frame(base).await?.select_columns(&[column]).and_then(DataFrame::distinct);
        let times = times.map_err(BuildFault::plan(&self.node, Some(self.location())))?;
        let rows = self.collect_as_is(times).await?;
        let times = rows.column_by_name(column).and_then(event_times).unwrap_or_default();
        let windows: BTreeSet<BatchWindow> = times.into_iter().flatten().map(|at_us| size.window_of(at_us)).collect();
        Ok(named(size, windows.into_iter().filter(|window| window.end_us > begin_us)))
    }

    /// Batches side by side. Each is computed alone from its own context, so that its rows never depend on which other batches
    /// happen to be stale with it; neighbours share a query only where that provably makes no difference.
    ///
    /// A batch that cannot be computed is left as it is, unless the rows must all be `of_one_making`, as when changed SQL has the
    /// table built anew: the others are written, and it stays stale. With nothing written the first fault is the model's.
    pub(super) async fn write_batches(
        &self,
        base: &SessionContext,
        batches: &[PlannedBatch],
        of_one_making: bool,
        shape: &Shape,
        writer: &mut Writer,
        observer: &dyn Observer,
    ) -> Result<()> {
        let most = if batches.len() > 1 && self.may_share(base).await? { shape.batches_per_query } else { 1 };
        let groups = neighbours(batches, most);
        let threads = self.executor.threads.max(1);
        let side_by_side = groups.len().min(threads);
        let prepared = match groups.as_slice() {
            [[first, ..], .., [.., last]] => self.prepare(base, [first.window, last.window], side_by_side).await,
            _ => None,
        };
        let over = Over { base, schema: &shape.schema, prepared: prepared.as_ref(), side_by_side, writer: &*writer };
        let work = |group| -> BoxFuture<'_, Vec<(String, Result<Staged>)>> {
            Box::pin(async move { self.group_or_each(over, group).await })
        };
        let waiting: Vec<_> = groups.into_iter().map(work).collect();
        let mut computed = futures::stream::iter(waiting).buffered(threads);
        let mut staged = Vec::with_capacity(batches.len());
        while let Some(group) = computed.next().await {
            for (name, batch) in group {
                match batch {
                    Err(fault) if of_one_making || batches.len() == 1 => return Err(fault),
                    batch => staged.push((name, batch)),
                }
                observer.batch_done(&self.model.name, staged.len(), batches.len());
            }
        }
        drop(computed);
        for (name, batch) in staged {
            match batch {
                Ok(batch) => writer.put(batch),
                Err(fault) => {
                    tracing::warn!(model = %self.model.name, batch = %name, error = %fault, "batch failed");
                    writer.leave(name, fault);
                }
            }
        }
        match writer.num_left() {
            left if left > 0 && left == batches.len() => {
                Err(writer.first_fault().unwrap_or(BuildFault::UnknownNode { node: self.node.clone() }))
            }
            _ => Ok(()),
        }
    }

    /// Neighbours together; when that fails, each alone, so that one bad batch takes no other with it.
    async fn group_or_each(&self, over: Over<'_>, group: &[PlannedBatch]) -> Vec<(String, Result<Staged>)> {
        let mut staged = Vec::with_capacity(group.len());
        if group.len() > 1
            && let Ok(computed) = self.group(over, group).await
        {
            for (name, rows) in computed {
                staged.push((name.clone(), over.writer.stage(Some(name), rows).await));
            }
            return staged;
        }
        for batch in group {
            let rows = self.one(over, batch).await;
            let batch_staged = match rows {
                Ok(rows) => over.writer.stage(Some(batch.name.clone()), rows).await,
                Err(fault) => Err(fault),
            };
            staged.push((batch.name.clone(), batch_staged));
        }
        staged
    }

    /// One batch; a store that does not answer is asked again.
    async fn one(&self, over: Over<'_>, batch: &PlannedBatch) -> Result<Canonical> {
        let mut wait = FIRST_WAIT;
        for _ in 1..MAX_BATCH_ATTEMPTS {
            match self.group(over, std::slice::from_ref(batch)).await {
                Err(fault) if fault.kind() == ErrorKind::Unavailable => {
                    tracing::warn!(model = %self.model.name, batch = %batch.name, error = %fault, "batch is computed again");
                    self.executor.planner.snapshots.lake().clock().sleep(wait).await;
                    wait *= 2;
                }
                Err(fault) => return Err(fault),
                Ok(rows) => return self.only(rows),
            }
        }
        let rows = self.group(over, std::slice::from_ref(batch)).await?;
        self.only(rows)
    }

    fn only(&self, rows: Vec<(String, Canonical)>) -> Result<Canonical> {
        let first = rows.into_iter().next();
        first.map(|(_, rows)| rows).ok_or_else(|| BuildFault::UnknownNode { node: self.node.clone() })
    }

    /// Computes neighbouring batches, one or several.
    async fn group(&self, over: Over<'_>, group: &[PlannedBatch]) -> Result<Vec<(String, Canonical)>> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(Vec::new()) };
        let window = BatchWindow { start_us: first.window.start_us, end_us: last.window.end_us };
        let query = self.query_of(over, window).await?;
        let rows = self.collect(query, over.schema).await?;
        if group.len() == 1 {
            return Ok(vec![(first.name.clone(), self.in_order(rows).await?)]);
        }
        let nothing = rows.slice(0, 0);
        let mut parts: BTreeMap<String, Canonical> = self.split(rows).await?.into_iter().collect();
        let mut computed = Vec::with_capacity(group.len());
        for batch in group {
            let part = match parts.remove(&batch.name) {
                Some(part) => part,
                None => self.canonical(&nothing)?,
            };
            computed.push((batch.name.clone(), part));
        }
        Ok(computed)
    }

    /// The query of a window, planned before or now.
    async fn query_of(&self, over: Over<'_>, window: BatchWindow) -> Result<Query> {
        let render = self.render_for(window);
        if let Some(prepared) = over.prepared {
            let sql = self.executor.sessions.compiler.sql(self.model, &render)?;
            let query = prepared.over(window, &sql);
            if let Some(query) = query.map_err(BuildFault::plan(&self.node, Some(self.location())))? {
                return Ok(query);
            }
        }
        let query = Query::from(self.windowed(over.base, Cut::At(window), &render).await?);
        Ok(query.beside(over.side_by_side))
    }

    /// Whether one query may compute several batches: its plan proves it, and its template does not ask for the batch.
    async fn may_share(&self, base: &SessionContext) -> Result<bool> {
        let planner = &self.executor.planner;
        let fault = |error| BuildFault::plan(&self.node, Some(self.location()))(error);
        let size = self.model.config.batch_size.unwrap_or(BatchSize::Day);
        let mut inputs = planner.graph.parents(&self.node);
        let (Some(input), None) = (inputs.next(), inputs.next()) else { return Ok(false) };
        if self.is_narrowed(input) {
            // What such a view shows depends on the window.
            return Ok(false);
        }
        let (Some(column), Some(relation)) =
            (event_time_of(&planner.project, input), self.executor.sessions.compiler.relation(input))
        else {
            return Ok(false);
        };
        let compiler = &self.executor.sessions.compiler;
        let somewhere = RenderContext { batch: Some(size.window_of(0)), ..self.render.clone() };
        let sql = compiler.sql(self.model, &self.render)?;
        if sql != compiler.sql(self.model, &somewhere)? {
            return Ok(false);
        }
        let context = beside(base);
        let name = TableReference::partial(relation.schema, relation.identifier);
        let schema = base.table_provider(name.clone()).await.map_err(fault)?.schema();
        register(&context, &name, Arc::new(EmptyTable::new(schema))).map_err(fault)?;
        let frame = crate::sql::plan(&context, &sql).await.map_err(fault)?;
        Ok(may_share_a_query(frame.logical_plan(), self.event_time()?, column, size))
    }

    /// Rows in their one order, on another thread.
    async fn in_order(&self, rows: RecordBatch) -> Result<Canonical> {
        let key = self.model.config.unique_key.clone();
        self.apart(async move { canonical(&rows, &key) }).await?.map_err(BuildFault::shape(&self.node))
    }

    /// Cuts the rows of the whole into batches, on another thread. Rows before `begin` or without event time belong to none.
    pub(super) async fn split(&self, rows: RecordBatch) -> Result<Vec<(String, Canonical)>> {
        let splitter = Splitter {
            size: self.model.config.batch_size.unwrap_or(BatchSize::Day),
            begin_us: self.model.config.begin_us.unwrap_or(i64::MIN),
            column: self.event_time()?.to_owned(),
            key: self.model.config.unique_key.clone(),
        };
        self.apart(async move { splitter.split(&rows) }).await?.map_err(BuildFault::shape(&self.node))
    }
}

/// What cuts rows into batches.
struct Splitter {
    size: BatchSize,
    begin_us: i64,
    column: String,
    key: Vec<String>,
}

impl Splitter {
    fn split(&self, rows: &RecordBatch) -> Result<Vec<(String, Canonical)>, ArrowError> {
        let times = rows.column_by_name(&self.column).and_then(event_times).unwrap_or_default();
        let mut indices: BTreeMap<BatchWindow, Vec<u32>> = BTreeMap::new();
        for (index, at_us) in times.into_iter().enumerate() {
            let (Some(at_us), Ok(index)) = (at_us, u32::try_from(index)) else { continue };
            let window = self.size.window_of(at_us);
            if window.end_us > self.begin_us {
                indices.entry(window).or_default().push(index);
            }
        }
        indices
            .into_iter()
            .map(|(window, indices)| {
                let part = take_record_batch(rows, &UInt32Array::from(indices))?;
                Ok((self.size.name(window), canonical(&part, &self.key)?))
            })
            .collect()
    }
}
