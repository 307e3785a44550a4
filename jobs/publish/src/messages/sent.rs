//! The table of sent rows. What it is for, and what a crash leaves, is on the page above.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_lake::maintain;
use tidemill_lake::metadata::{Act, CommitNote, PublishNote};
use tidemill_lake::{CommitOutcome, CommitRequest, DataFile, Lake, Table, TableId, TableSpec};
use tidemill_project::TableVersion;
use uuid::Uuid;

use crate::diff::ChangeSet;
use crate::edits::Edits;
use crate::sink::{ApplyContext, Position};
use crate::{Error, Publication, Result};

/// Races against maintenance that are run again before giving up. Each one needs a compaction to finish just now.
const MAX_RACES: usize = 5;

/// The tables of sent rows of one sink.
#[derive(Clone, Debug)]
pub(crate) struct SentRows {
    lake: Lake,
    sink: &'static str,
}

/// A version of the table that waits for the sink's record to name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) version: TableVersion,
    /// Names the attempt: a sink's record that holds it was written by this very publication.
    pub(crate) commit_id: Uuid,
}

impl SentRows {
    pub(crate) fn new(lake: Lake, sink: &'static str) -> Self {
        Self { lake, sink }
    }

    fn id(&self, publication: &Publication) -> TableId {
        let name = publication.target.to_string();
        let letters: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(60).collect();
        let hash = xxhash_rust::xxh3::xxh3_64(name.as_bytes()) & 0xffff_ffff;
        TableId::Ops(format!("sent_{}_{letters}_{hash:08x}", self.sink))
    }

    /// The rows that readers have at `position`; `None` when that is not known.
    ///
    /// A version behind it that only maintenance made shows the same rows and is taken instead.
    pub(crate) async fn at(&self, publication: &Publication, position: Option<&Position>) -> Result<Option<Table>> {
        let Some(version) = position.and_then(|position| position.sent_version) else { return Ok(None) };
        let fault = || Error::lake("open the table of sent rows", publication);
        let id = self.id(publication);
        let Some(newest) = self.lake.open(&id).await.map_err(fault())? else { return Ok(None) };
        if newest.version() == version {
            return Ok(Some(newest));
        }
        let later = newest.commits(Some(version), newest.version()).await;
        if later.as_ref().is_ok_and(|commits| commits.iter().all(|commit| !commit.data_change)) {
            return Ok(Some(newest));
        }
        match self.lake.open_at(&id, version).await {
            Ok(table) => Ok(Some(table)),
            Err(error) if error.is_version_gone() || error.is_missing() => {
                tracing::warn!(target = %publication.target, %version, "the rows that were sent are not readable any more");
                Ok(None)
            }
            Err(error) => Err(fault()(error)),
        }
    }

    /// Opens the table for writing in the shape of `changes`, and the files that readers have now.
    ///
    /// A table of another shape is laid anew: then everything counts as not sent.
    pub(crate) async fn open(&self, changes: &ChangeSet, context: ApplyContext<'_>) -> Result<(Table, Vec<DataFile>)> {
        let publication = changes.publication();
        let spec = TableSpec {
            id: self.id(publication),
            schema: changes.shape().stored_schema(),
            partition_columns: changes.shape().target_partition_columns(),
            bloom_columns: Vec::new(),
            description: format!(
                "rows of model {} as they were last sent to {}",
                publication.model_name, publication.target
            ),
        };
        let fault = || Error::lake("open the table of sent rows", publication);
        let Some(mut table) = self.lake.open(&spec.id).await.map_err(fault())? else {
            let table = self.lake.open_or_create(&spec, context.run_id).await.map_err(fault())?;
            return Ok((table, Vec::new()));
        };
        let known = table.schema();
        let (known_fields, mut missing, mut fits) = (known.fields(), Vec::new(), true);
        for field in spec.schema.fields() {
            match known_fields.find(field.name()) {
                Some((_, found)) => fits &= found.data_type() == field.data_type(),
                None => missing.push(field.as_ref().clone()),
            }
        }
        if !fits || table.partition_columns() != spec.partition_columns {
            tracing::warn!(target = %publication.target, "the published shape changed, every row is sent again");
            self.lake.drop_table(&spec.id).await.map_err(fault())?;
            let table = self.lake.open_or_create(&spec, context.run_id).await.map_err(fault())?;
            return Ok((table, Vec::new()));
        }
        let live = match self.at(publication, changes.base()).await? {
            Some(sent) => sent.files(),
            None => Vec::new(),
        };
        if !missing.is_empty() {
            let note = self.note(context, Act::Create);
            if let CommitOutcome::Lost(_) = table.add_columns(missing, note).await.map_err(fault())? {
                return Err(Error::moved(&publication.target, None, None));
            }
        }
        Ok((table, live))
    }

    /// Commits the version in which `live` has lost and gained what `edits` says, whatever the table shows now: versions that
    /// no record names are undone by it.
    pub(crate) async fn commit(
        &self,
        table: &mut Table,
        live: Vec<DataFile>,
        changes: &ChangeSet,
        edits: (crate::edits::Lost, Vec<DataFile>),
        context: ApplyContext<'_>,
    ) -> Result<Written> {
        let publication = changes.publication();
        let fault = || Error::lake("commit to the table of sent rows", publication);
        let mut live = live;
        for _ in 0..MAX_RACES {
            let exchange = Edits::merge(table, &live, changes, edits.0.clone(), edits.1.clone()).await?;
            let gone: BTreeSet<&str> = exchange.removed.iter().map(|file| file.path.as_str()).collect();
            let wanted: BTreeMap<String, DataFile> = live
                .iter()
                .filter(|file| !gone.contains(file.path.as_str()))
                .chain(&exchange.added)
                .map(|file| (file.path.clone(), file.clone()))
                .collect();
            let shown: BTreeMap<String, DataFile> =
                table.files().into_iter().map(|file| (file.path.clone(), file)).collect();
            let note = self.note(context, Self::story(changes));
            let commit_id = note.commit_id;
            let add: Vec<DataFile> =
                wanted.iter().filter(|(path, _)| !shown.contains_key(*path)).map(|(_, file)| file.clone()).collect();
            let remove: Vec<DataFile> =
                shown.iter().filter(|(path, _)| !wanted.contains_key(*path)).map(|(_, file)| file.clone()).collect();
            let request = CommitRequest {
                data_change: !(add.is_empty() && remove.is_empty()),
                add,
                remove,
                txns: BTreeMap::new(),
                operation: "MERGE",
                note,
            };
            match table.commit(request).await.map_err(fault())? {
                CommitOutcome::Committed(version) => {
                    maintain::after_commit(table, context.run_id).await;
                    return Ok(Written { version, commit_id });
                }
                CommitOutcome::Lost(winners) => {
                    if winners.iter().any(|commit| commit.data_change) {
                        return Err(Error::moved(&publication.target, changes.base().map(|base| base.version), None));
                    }
                    // Compaction put the same rows into other files.
                    if let Some(sent) = self.at(publication, changes.base()).await? {
                        live = sent.files();
                    }
                }
            }
        }
        Err(Error::moved(&publication.target, changes.base().map(|base| base.version), None))
    }

    fn note(&self, context: ApplyContext<'_>, act: Act) -> CommitNote {
        CommitNote { commit_id: self.lake.clock().new_id(), run_id: context.run_id.to_owned(), act }
    }

    fn story(changes: &ChangeSet) -> Act {
        let (counts, position) = (changes.counts(), changes.next_position());
        Act::Publish(PublishNote {
            table: changes.publication().model.path(),
            table_id: position.table_id,
            from: changes.from().map(|version| version.0),
            to: position.version.0,
            seq: position.seq,
            inserted: counts.inserted,
            updated: counts.updated,
            deleted: counts.deleted,
            watermark_us: position.watermark_us,
        })
    }
}
