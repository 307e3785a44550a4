//! From a request to applied changes: open, plan, group, apply, plan again when somebody else was faster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;
use tidemill_lake::{Lake, Table};
use tidemill_project::Diagnostic as _;
use tidemill_project::config::{Settings, WarehouseSettings};
use tokio_util::sync::CancellationToken;

use crate::diff::{ChangeCounts, ChangeSet, MAX_KEYS_IN_MEMORY, PlanRequest, model_watermark, plan};
use crate::error::Cause;
use crate::kafka::KafkaSink;
use crate::local::LocalSink;
use crate::redis::RedisSink;
use crate::report::{CheckedTable, Outcome, PublishObserver, PublishReport, PublishedTable, PublishedVersion};
use crate::request::{SinkKind, Target};
use crate::sink::{ApplyContext, Position, Sink};
use crate::snowflake::SnowflakeSink;
use crate::{Error, Publication, PublishRequest, Result};

/// Plans of one group before giving up. Each new one needs another publisher that finished meanwhile.
const MAX_PLANS: usize = 5;

/// Publishes what changed since each target's version.
///
/// Targets of one group (one Snowflake database; one table of the local warehouse; one topic; one pattern of Redis keys) change
/// together or not at all. What was published before an error stays published, and an error of one sink does not keep the others
/// from their work: an alert does not wait for the warehouse. The first error is returned. Asking `cancel` ends the work between
/// groups.
///
/// # Errors
/// Kind `Conflict` when other publishers kept winning, `Invalid` for rows that cannot be published (NULL keys), and whatever
/// the lake and the sinks answer.
pub async fn publish(
    settings: &Settings,
    lake: &Lake,
    request: PublishRequest,
    observer: &dyn PublishObserver,
    cancel: &CancellationToken,
) -> Result<PublishReport> {
    refuse_shared_targets(&request.publications, settings)?;
    let mut report = PublishReport::default();
    let mut fault = None;
    for (kind, publications) in by_kind(&request.publications) {
        let Some(sink) = sink_of(kind, settings, lake, &publications)? else {
            report.tables.extend(publications.iter().map(|publication| without_sink(publication, kind)));
            continue;
        };
        let part = PublishRequest { publications, ..request.clone() };
        let done = publish_to(sink.as_ref(), settings, lake, &part, observer, cancel, &mut report).await;
        sink.close().await;
        if let Err(error) = done {
            tracing::error!(sink = sink.name(), %error, "publishing failed");
            fault = fault.or(Some(error));
        }
    }
    if let Some(error) = fault {
        return Err(error);
    }
    let order = |table: &PublishedTable| {
        request.publications.iter().position(|one| renamed(one, settings).target == table.target)
    };
    report.tables.sort_by_key(order);
    Ok(report)
}

/// Where each publication stands, as far as can be told without waking a warehouse.
///
/// # Errors
/// What the lake answers. A server that does not answer counts as "nothing is known".
pub async fn published_versions(
    settings: &Settings,
    lake: &Lake,
    publications: &[Publication],
) -> Result<Vec<PublishedVersion>> {
    let mut versions = Vec::with_capacity(publications.len());
    for (kind, publications) in by_kind(publications) {
        let sink = sink_of(kind, settings, lake, &publications)?;
        for publication in publications.iter().map(|publication| renamed(publication, settings)) {
            let model = open_model(lake, &publication).await?;
            let position = match &sink {
                Some(sink) => match sink.position(&publication).await {
                    Err(error) if error.kind().is_retryable() => {
                        tracing::warn!(target = %publication.target, %error, "the published version is not known");
                        None
                    }
                    position => position?,
                },
                None => None,
            };
            // A position in a table that is no more says nothing about the one that is there.
            let position =
                position.filter(|position| model.as_ref().is_some_and(|table| table.table_id() == position.table_id));
            versions.push(PublishedVersion {
                sink: sink.as_ref().map_or(kind.name(), |sink| sink.name()),
                version: position.as_ref().map(|position| position.version),
                newest: model.as_ref().map(Table::version),
                seq: position.as_ref().map(|position| position.seq),
                watermark_us: position.and_then(|position| position.watermark_us),
                model: publication.model_name,
                target: publication.target,
            });
        }
    }
    let order = |version: &PublishedVersion| {
        publications.iter().position(|one| renamed(one, settings).target == version.target)
    };
    versions.sort_by_key(order);
    Ok(versions)
}

/// Compares each target with its model, writing nothing. Models that were never built are left out, and so are targets that the
/// settings have no sink for.
///
/// # Errors
/// What the lake and the sinks answer.
pub async fn check(
    settings: &Settings,
    lake: &Lake,
    publications: &[Publication],
    cancel: &CancellationToken,
) -> Result<Vec<CheckedTable>> {
    let mut checked = Vec::with_capacity(publications.len());
    for (kind, publications) in by_kind(publications) {
        let Some(sink) = sink_of(kind, settings, lake, &publications)? else { continue };
        let result = async {
            for publication in publications.iter().map(|publication| renamed(publication, settings)) {
                if cancel.is_cancelled() {
                    break;
                }
                if let Some(model) = open_model(lake, &publication).await? {
                    checked.push(sink.check(&publication, Arc::new(model)).await?);
                }
            }
            Ok::<_, Error>(())
        }
        .await;
        sink.close().await;
        result?;
    }
    let order =
        |table: &CheckedTable| publications.iter().position(|one| renamed(one, settings).target == table.target);
    checked.sort_by_key(order);
    Ok(checked)
}

/// Publications by the kind of sink that takes them: warehouse first, each in its order.
pub(crate) fn by_kind(publications: &[Publication]) -> BTreeMap<SinkKind, Vec<Publication>> {
    let mut kinds: BTreeMap<SinkKind, Vec<Publication>> = BTreeMap::new();
    for publication in publications {
        kinds.entry(publication.target.kind()).or_default().push(publication.clone());
    }
    kinds
}

/// The sink of a kind; `None` when the settings have none.
pub(crate) fn sink_of(
    kind: SinkKind,
    settings: &Settings,
    lake: &Lake,
    publications: &[Publication],
) -> Result<Option<Box<dyn Sink>>> {
    Ok(match kind {
        SinkKind::Warehouse => match &settings.warehouse {
            WarehouseSettings::Local(store) => {
                let warehouse = Lake::connect(store, &settings.maintenance, lake.clock().clone())
                    .map_err(|error| Error::warehouse(error, publications.first()))?;
                Some(Box::new(LocalSink::new(warehouse.remembering())))
            }
            WarehouseSettings::Snowflake(snowflake) => {
                Some(Box::new(SnowflakeSink::new(snowflake.as_ref().clone(), lake.clone())))
            }
        },
        SinkKind::Kafka => settings.sinks.kafka.as_ref().or(settings.kafka.as_ref()).map(|cluster| -> Box<dyn Sink> {
            Box::new(KafkaSink::new(cluster.clone(), settings.sinks.clone(), settings.name.as_str(), lake.clone()))
        }),
        SinkKind::Redis => settings
            .sinks
            .redis
            .as_ref()
            .map(|redis| -> Box<dyn Sink> { Box::new(RedisSink::new(redis.clone(), lake.clone())) }),
    })
}

/// What there is to say about a publication that the settings have no sink for.
fn without_sink(publication: &Publication, kind: SinkKind) -> PublishedTable {
    tracing::debug!(target = %publication.target, sink = kind.name(), "the target of the project has no such sink");
    PublishedTable {
        model: publication.model_name.clone(),
        target: publication.target.clone(),
        sink: kind.name(),
        outcome: Outcome::NoSink,
        from: None,
        to: None,
        seq: None,
        counts: ChangeCounts::default(),
    }
}

fn refuse_shared_targets(publications: &[Publication], settings: &Settings) -> Result<()> {
    let mut targets = BTreeSet::new();
    for publication in publications.iter().map(|publication| renamed(publication, settings)) {
        if !targets.insert(publication.target.clone()) {
            return Err(Error::new(Cause::SameTarget { target: publication.target }).at(&publication.location));
        }
    }
    Ok(())
}

pub(crate) fn renamed(publication: &Publication, settings: &Settings) -> Publication {
    let mut publication = publication.clone();
    match (&mut publication.target, &settings.warehouse) {
        (Target::Table(table), WarehouseSettings::Snowflake(snowflake)) => {
            if let Some(name) = snowflake.databases.get(&table.database) {
                table.database.clone_from(name);
            }
        }
        (Target::Topic { topic }, _) => {
            if let Some(name) = settings.sinks.topics.get(topic) {
                topic.clone_from(name);
            }
        }
        _ => {}
    }
    publication
}

pub(crate) async fn open_model(lake: &Lake, publication: &Publication) -> Result<Option<Table>> {
    lake.open(&publication.model).await.map_err(Error::lake("open the model's table", publication))
}

async fn publish_to(
    sink: &dyn Sink,
    settings: &Settings,
    lake: &Lake,
    request: &PublishRequest,
    observer: &dyn PublishObserver,
    cancel: &CancellationToken,
    report: &mut PublishReport,
) -> Result<()> {
    let mut groups: IndexMap<String, Vec<Publication>> = IndexMap::new();
    for publication in &request.publications {
        let publication = renamed(publication, settings);
        groups.entry(sink.group_of(&publication)).or_default().push(publication);
    }
    for publications in groups.into_values() {
        if cancel.is_cancelled() {
            report.cancelled = true;
            break;
        }
        let group = Group { sink, lake, request, observer };
        let tables = Box::pin(group.publish(&publications)).await?;
        for table in &tables {
            observer.finished(table);
        }
        report.tables.extend(tables);
    }
    Ok(())
}

struct Group<'a> {
    sink: &'a dyn Sink,
    lake: &'a Lake,
    request: &'a PublishRequest,
    observer: &'a dyn PublishObserver,
}

impl Group<'_> {
    async fn publish(&self, publications: &[Publication]) -> Result<Vec<PublishedTable>> {
        let mut attempt = 1;
        loop {
            match self.try_publish(publications, attempt > 1).await {
                Err(error) if error.is_moved() && attempt < MAX_PLANS => {
                    tracing::info!(attempt, error = %error, "planning again");
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Plans and applies once. `ask` = the sink's memory was wrong, so ask the target itself.
    async fn try_publish(&self, publications: &[Publication], ask: bool) -> Result<Vec<PublishedTable>> {
        let context = ApplyContext { run_id: &self.request.run_id, observer: self.observer };
        let mut done = Vec::new();
        let mut changed = Vec::new();
        for publication in publications {
            match self.plan(publication, ask).await? {
                Planned::Done(table) => done.push(table),
                Planned::Same(changes) => {
                    let position = self.sink.skip(&changes, context).await?;
                    done.push(self.table(&changes, Outcome::UpToDate, ChangeCounts::default(), Some(position)));
                }
                Planned::Changed(changes) => changed.push(*changes),
            }
        }
        if self.request.dry_run {
            done.extend(changed.iter().map(|changes| self.table(changes, Outcome::Planned, changes.counts(), None)));
        } else if !changed.is_empty() {
            let applied = self.sink.apply(&changed, context).await?;
            done.extend(changed.iter().zip(applied).map(|(changes, applied)| {
                self.table(changes, Outcome::Published, applied.counts, Some(applied.position))
            }));
        }
        Ok(done)
    }

    async fn plan(&self, publication: &Publication, ask: bool) -> Result<Planned> {
        let Some(model) = open_model(self.lake, publication).await? else {
            return Ok(Planned::Done(PublishedTable {
                model: publication.model_name.clone(),
                target: publication.target.clone(),
                sink: self.sink.name(),
                outcome: Outcome::NotBuilt,
                from: None,
                to: None,
                seq: None,
                counts: ChangeCounts::default(),
            }));
        };
        let base =
            if ask { self.sink.refresh_position(publication).await? } else { self.sink.position(publication).await? };
        let full = self.request.full;
        let known = base.as_ref().filter(|base| base.table_id == model.table_id() && !full);
        if let Some(base) = known.filter(|base| base.version == model.version()) {
            return Ok(Planned::Done(PublishedTable {
                model: publication.model_name.clone(),
                target: publication.target.clone(),
                sink: self.sink.name(),
                outcome: Outcome::UpToDate,
                from: Some(base.version),
                to: Some(base.version),
                seq: Some(base.seq),
                counts: ChangeCounts::default(),
            }));
        }
        let target = self.sink.rows(publication, base.as_ref()).await?.map(Arc::new);
        let mut watermark_us = model_watermark(&model, publication).await?;
        if publication.messages.is_some() {
            // W never goes back, whatever clock a build was given: a window that readers know as closed stays closed.
            watermark_us = watermark_us.max(base.as_ref().and_then(|base| base.watermark_us));
        }
        let changes = plan(PlanRequest {
            publication: publication.clone(),
            model: Arc::new(model),
            base,
            target,
            watermark_us,
            full,
            resend: full && self.sink.resends_in_full(),
            max_keys: MAX_KEYS_IN_MEMORY,
            names_rows: self.sink.names_changes(),
        })
        .await?;
        self.observer.planned(&publication.model_name, &publication.target, changes.counts());
        // A first publication makes the target table even when the model has no row.
        let nothing = changes.counts().is_zero() && changes.from().is_some() && !self.request.dry_run;
        Ok(if nothing { Planned::Same(Box::new(changes)) } else { Planned::Changed(Box::new(changes)) })
    }

    fn table(
        &self,
        changes: &ChangeSet,
        outcome: Outcome,
        counts: ChangeCounts,
        position: Option<Position>,
    ) -> PublishedTable {
        PublishedTable {
            model: changes.publication().model_name.clone(),
            target: changes.publication().target.clone(),
            sink: self.sink.name(),
            outcome,
            from: changes.from(),
            to: Some(changes.to()),
            seq: position.map(|position| position.seq),
            counts,
        }
    }
}

enum Planned {
    /// Nothing to do.
    Done(PublishedTable),
    /// The version moved, no row changed.
    Same(Box<ChangeSet>),
    /// Rows to send.
    Changed(Box<ChangeSet>),
}
