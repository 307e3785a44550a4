//! One publication into the local warehouse: the target made ready, files exchanged in one commit.

use std::collections::BTreeMap;

use arrow::datatypes::Field;
use tidemill_lake::maintain;
use tidemill_lake::metadata::{Act, CommitNote, PublishNote};
use tidemill_lake::{CommitOutcome, CommitRequest, DataFile, Table, TableSpec};
use tidemill_project::crash;

use super::{LocalSink, last_publication, position_of, table_of};
use crate::diff::ChangeSet;
use crate::edits::Edits;
use crate::error::Cause;
use crate::sink::{Applied, ApplyContext, Position};
use crate::{Error, Result};

/// Races against maintenance that are run again before giving up. Each one needs a compaction to finish just now.
const MAX_RACES: usize = 5;

impl LocalSink {
    pub(super) async fn apply_one(&self, changes: &ChangeSet, context: ApplyContext<'_>) -> Result<Applied> {
        let publication = changes.publication();
        let mut table = self.open_for(changes, context).await?;
        let position = changes.next_position();
        let mut edits = Edits::new(&table, changes)?;
        changes.visit(&mut edits).await?;
        edits.flush().await?;
        let (lost, added) = (edits.lost, edits.added);
        crash::point("publish.local.after_parquet");
        context.observer.step("publish.local.after_parquet");
        for _ in 0..MAX_RACES {
            // Counted anew each time: the winner exchanged files.
            let live: Vec<DataFile> = lost.keys().flat_map(|values| table.files_of(values)).collect();
            let edits = Edits::merge(&table, &live, changes, lost.clone(), added.clone()).await?;
            let request = CommitRequest {
                data_change: !(edits.added.is_empty() && edits.removed.is_empty()),
                add: edits.added,
                remove: edits.removed,
                txns: BTreeMap::new(),
                operation: "MERGE",
                note: self.note(changes, &position, context),
            };
            let outcome =
                table.commit(request).await.map_err(Error::lake("commit to the target table", publication))?;
            match outcome {
                CommitOutcome::Committed(_) => {
                    crash::point("publish.local.after_commit");
                    context.observer.step("publish.local.after_commit");
                    maintain::after_commit(&table, context.run_id).await;
                    return Ok(Applied { position, counts: changes.counts() });
                }
                CommitOutcome::Lost(winners) => {
                    let published = winners
                        .iter()
                        .any(|commit| commit.note.as_ref().is_some_and(|note| matches!(note.act, Act::Publish(_))));
                    if published {
                        break;
                    }
                }
            }
        }
        Err(Error::moved(&publication.target, changes.base().map(|base| base.version), None))
    }

    fn note(&self, changes: &ChangeSet, position: &Position, context: ApplyContext<'_>) -> CommitNote {
        let counts = changes.counts();
        CommitNote {
            commit_id: self.warehouse.clock().new_id(),
            run_id: context.run_id.to_owned(),
            act: Act::Publish(PublishNote {
                table: changes.publication().model.path(),
                table_id: position.table_id.clone(),
                from: changes.from().map(|version| version.0),
                to: position.version.0,
                seq: position.seq,
                inserted: counts.inserted,
                updated: counts.updated,
                deleted: counts.deleted,
                watermark_us: position.watermark_us,
            }),
        }
    }

    /// Opens the target table in the shape that the changes need: creates it, adds columns, or lays it anew when the model's
    /// table has other partitions now.
    async fn open_for(&self, changes: &ChangeSet, context: ApplyContext<'_>) -> Result<Table> {
        let (publication, id) = (changes.publication(), table_of(changes.publication().table()));
        let spec = TableSpec {
            id: id.clone(),
            schema: changes.shape().stored_schema(),
            partition_columns: changes.shape().target_partition_columns(),
            bloom_columns: Vec::new(),
            description: format!("model {}, published by tidemill", publication.model_name),
        };
        let create = async || {
            let created = self.warehouse.open_or_create(&spec, context.run_id).await;
            created.map_err(Error::lake("create the target table", publication))
        };
        let found = self.open(publication).await?;
        let standing = match &found {
            Some(table) => last_publication(table, publication).await?.map(|note| position_of(note, publication)),
            None => None,
        };
        if standing.as_ref() != changes.base() {
            let version = |position: Option<&Position>| position.map(|position| position.version);
            return Err(Error::moved(&publication.target, version(changes.base()), version(standing.as_ref())));
        }
        let Some(mut table) = found else { return create().await };
        if table.partition_columns() != spec.partition_columns {
            tracing::warn!(table = %publication.target, "the model is cut into other partitions now, laying the target table anew");
            self.warehouse.drop_table(&id).await.map_err(Error::lake("drop the target table", publication))?;
            return create().await;
        }
        let known = table.schema();
        for field in spec.schema.fields() {
            if let Ok(found) = known.field_with_name(field.name())
                && found.data_type() != field.data_type()
            {
                let (wanted, found) = (field.data_type().to_string(), found.data_type().to_string());
                let (target, column) = (publication.target.clone(), field.name().clone());
                return Err(Error::new(Cause::ColumnType { target, column, wanted, found }).at(&publication.location));
            }
        }
        let missing: Vec<Field> = spec
            .schema
            .fields()
            .iter()
            .filter(|field| known.field_with_name(field.name()).is_err())
            .map(|field| field.as_ref().clone())
            .collect();
        if !missing.is_empty() {
            let note = CommitNote {
                commit_id: self.warehouse.clock().new_id(),
                run_id: context.run_id.to_owned(),
                act: Act::Create,
            };
            match table
                .add_columns(missing, note)
                .await
                .map_err(Error::lake("add columns to the target table", publication))?
            {
                CommitOutcome::Committed(_) => {}
                CommitOutcome::Lost(_) => return Err(Error::moved(&publication.target, None, None)),
            }
        }
        Ok(table)
    }
}
