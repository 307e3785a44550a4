//! Models in a lake, and what every sink must do with them: one function per guarantee, run by the local warehouse and by
//! Snowflake's emulator.

pub(crate) mod conformance;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use tidemill_lake::metadata::{Act, CommitNote, TransformNote};
use tidemill_lake::{CommitRequest, Lake, PartitionedBatch, TableId, TableSpec};
use tidemill_project::Location;
use tidemill_publish::{BATCH_COLUMN, Publication, PublishReport, PublishRequest, Result, Strategy, TargetTable};

/// One row of a model: batch, user, minutes.
pub(crate) type Row = (&'static str, Option<&'static str>, i64);

/// A sink with a lake in front of it.
#[async_trait]
pub(crate) trait Fixture: Send + Sync {
    fn models(&self) -> &Models;

    fn database(&self) -> &str;

    /// Publishes as a process of its own would.
    async fn publish(&self, request: PublishRequest) -> Result<PublishReport>;

    /// User and minutes of a target, sorted.
    async fn target(&self, model: &str) -> Vec<(String, i64)>;
}

/// Merges `model` by `user_id` into the table of the same name.
pub(crate) fn publication(database: &str, model: &str) -> Publication {
    Publication {
        model: TableId::model("main", model),
        model_name: model.into(),
        target: TargetTable { database: database.into(), schema: "MARTS".into(), table: model.into() }.into(),
        unique_key: vec!["user_id".into()],
        strategy: Strategy::Merge,
        columns: None,
        json_columns: Vec::new(),
        filter: None,
        messages: None,
        location: Location::new("models.yml", 1, 1),
    }
}

/// Publishes what is new of `models`.
pub(crate) fn request(database: &str, models: &[&str]) -> PublishRequest {
    PublishRequest {
        publications: models.iter().map(|model| publication(database, model)).collect(),
        run_id: "run-1".into(),
        full: false,
        dry_run: false,
    }
}

/// The lake's side.
pub(crate) struct Models {
    pub(crate) lake: Lake,
}

impl Models {
    /// Replaces whole batches of a model, as a microbatch build does.
    pub(crate) async fn build(&self, model: &str, batches: &[&str], rows: &[Row]) {
        let schema = Schema::new(vec![
            Field::new("user_id", DataType::Utf8, true),
            Field::new("minutes", DataType::Int64, true),
        ]);
        let parts = batches.iter().map(|batch| {
            let rows: Vec<_> = rows.iter().filter(|row| row.0 == *batch).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
            ];
            ((*batch).to_owned(), RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap())
        });
        self.build_batches(model, parts.collect()).await;
    }

    /// Replaces batches by rows of any shape.
    pub(crate) async fn build_batches(&self, model: &str, parts: Vec<(String, RecordBatch)>) {
        self.build_at(model, parts, Some(1_700_000_000_000_000)).await;
    }

    /// Replaces batches, none perhaps, by rows of any shape while W stands at `watermark_us`.
    pub(crate) async fn build_at(&self, model: &str, parts: Vec<(String, RecordBatch)>, watermark_us: Option<i64>) {
        let id = TableId::model("main", model);
        let mut table = match parts.first() {
            None => self.lake.open(&id).await.unwrap().unwrap(),
            Some((_, first)) => {
                let mut fields: Vec<_> = first.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
                fields.push(Field::new(BATCH_COLUMN, DataType::Utf8, true));
                let spec = TableSpec {
                    id,
                    schema: Arc::new(Schema::new(fields)),
                    partition_columns: vec![BATCH_COLUMN.to_owned()],
                    bloom_columns: Vec::new(),
                    description: String::new(),
                };
                self.lake.open_or_create(&spec, "test").await.unwrap()
            }
        };
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for (batch, rows) in parts {
            let partition_values = BTreeMap::from([(BATCH_COLUMN.to_owned(), Some(batch))]);
            remove.extend(table.files_of(&partition_values));
            if rows.num_rows() > 0 {
                let part = PartitionedBatch { partition_values, batches: vec![rows], tags: BTreeMap::new() };
                add.extend(table.write_files(vec![part]).await.unwrap());
            }
        }
        let note = CommitNote {
            commit_id: self.lake.clock().new_id(),
            run_id: "build".into(),
            act: Act::Transform(TransformNote {
                watermark_us,
                ..TransformNote::default()
            }),
        };
        let data_change = !(add.is_empty() && remove.is_empty());
        let request = CommitRequest { add, remove, txns: BTreeMap::new(), operation: "WRITE", data_change, note };
        table.commit(request).await.unwrap();
    }
}
