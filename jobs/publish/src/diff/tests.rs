//! A difference, applied, leads from one version to the other, however it is cut into slices.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use async_trait::async_trait;
use proptest::prelude::*;
use tidemill_lake::metadata::{Act, CommitNote, TransformNote};
use tidemill_lake::{CommitRequest, Lake, PartitionedBatch, Table, TableId, TableSpec};
use tidemill_project::clock::Clock;
use tidemill_project::config::{LakeSettings, MaintenanceSettings};
use tidemill_project::{Location, TableVersion};

use super::{ChangeBatch, ChangeConsumer, ChangeKind, PlanRequest, plan};
use crate::{BATCH_COLUMN, Position, Publication, Result, Strategy as PublishStrategy, TargetTable};

/// Batch -> rows of key and value, in the order in which they are written.
type Model = BTreeMap<u8, Vec<(u8, i64)>>;

/// What a warehouse holds: key -> value.
type Target = BTreeMap<String, i64>;

struct Applier<'a>(&'a mut Target);

#[async_trait]
impl ChangeConsumer for Applier<'_> {
    async fn consume(&mut self, batch: ChangeBatch) -> Result<()> {
        let keys = batch.rows.column(0).as_string::<i32>();
        let values = batch.rows.column(1).as_primitive::<Int64Type>();
        for row in 0..batch.rows.num_rows() {
            match batch.kind {
                ChangeKind::Upsert => drop(self.0.insert(keys.value(row).to_owned(), values.value(row))),
                ChangeKind::Delete => drop(self.0.remove(keys.value(row))),
                ChangeKind::MoveOut => {}
            }
        }
        assert!(values.null_count() == 0);
        Ok(())
    }
}

/// The rule, said in the simplest way: of rows with one key the last of the greatest batch wins.
fn wanted(model: &Model) -> Target {
    model.values().flatten().map(|(key, value)| (key.to_string(), *value)).collect()
}

fn publication() -> Publication {
    Publication {
        model: TableId::model("main", "m"),
        model_name: "m".into(),
        target: TargetTable { database: "D".into(), schema: "S".into(), table: "T".into() }.into(),
        unique_key: vec!["key".into()],
        strategy: PublishStrategy::Merge,
        columns: None,
        json_columns: Vec::new(),
        filter: None,
        messages: None,
        location: Location::new("m.yml", 1, 1),
    }
}

async fn build(lake: &Lake, before: &Model, after: &Model) -> Table {
    let data = vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Int64, true)];
    let mut fields = data.clone();
    fields.push(Field::new(BATCH_COLUMN, DataType::Utf8, true));
    let spec = TableSpec {
        id: TableId::model("main", "m"),
        schema: Arc::new(Schema::new(fields)),
        partition_columns: vec![BATCH_COLUMN.to_owned()],
        bloom_columns: Vec::new(),
        description: String::new(),
    };
    let mut table = lake.open_or_create(&spec, "test").await.unwrap();
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for batch in before.keys().chain(after.keys()).collect::<std::collections::BTreeSet<_>>() {
        if before.get(batch) == after.get(batch) {
            continue;
        }
        let partition_values = BTreeMap::from([(BATCH_COLUMN.to_owned(), Some(format!("{batch:03}")))]);
        remove.extend(table.files_of(&partition_values));
        let rows = after.get(batch).cloned().unwrap_or_default();
        if rows.is_empty() {
            continue;
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| Some(row.0.to_string())).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        ];
        let batches = vec![RecordBatch::try_new(Arc::new(Schema::new(data.clone())), columns).unwrap()];
        let files = table.write_files(vec![PartitionedBatch { partition_values, batches, tags: BTreeMap::new() }]);
        add.extend(files.await.unwrap());
    }
    let act = Act::Transform(TransformNote::default());
    let note = CommitNote { commit_id: lake.clock().new_id(), run_id: "test".into(), act };
    let request = CommitRequest { add, remove, txns: BTreeMap::new(), operation: "WRITE", data_change: true, note };
    table.commit(request).await.unwrap();
    table
}

/// Keys come from the batch, as they do in a model whose key holds its time; some move between two neighbouring batches.
fn models() -> impl Strategy<Value = Vec<Model>> {
    let rows = prop::collection::vec((0_u8..12, 0_i64..3), 0..8);
    prop::collection::vec(prop::collection::btree_map(0_u8..4, rows, 0..4), 1..5)
        .prop_map(|models| models.into_iter().map(unambiguous).collect())
}

/// Leaves each key in one batch: where several have it, which one wins depends on batches that did not change, and a model
/// whose key is not unique is broken (its data test says so).
fn unambiguous(mut model: Model) -> Model {
    let mut seen = BTreeMap::new();
    for (&batch, rows) in &mut model {
        rows.retain(|(key, _)| *seen.entry(*key).or_insert(batch) == batch);
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn differences_lead_from_version_to_version(models in models(), max_keys in 16_u64..64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let place = LakeSettings { url: url::Url::from_directory_path(folder.path()).unwrap(), options: BTreeMap::new() };
            let lake = Lake::connect(&place, &MaintenanceSettings::default(), Clock::system()).unwrap();
            let (mut target, mut before, mut base) = (Target::new(), Model::new(), None);
            for model in models {
                let table = Arc::new(build(&lake, &before, &model).await);
                let request = PlanRequest {
                    publication: publication(), model: Arc::clone(&table), base: base.clone(), target: None, watermark_us: None, full: false, resend: false, max_keys, names_rows: true,
                };
                let changes = plan(request).await.unwrap();
                let old = target.clone();
                changes.visit(&mut Applier(&mut target)).await.unwrap();
                prop_assert_eq!(&target, &wanted(&model));
                let counts = changes.counts();
                let inserted = target.keys().filter(|key| !old.contains_key(*key)).count() as u64;
                let deleted = old.keys().filter(|key| !target.contains_key(*key)).count() as u64;
                prop_assert_eq!((counts.inserted, counts.deleted), (inserted, deleted));
                base = Some(changes.next_position());
                before = model;
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn content_hash_names_the_changed_rows_and_not_the_files_or_slices() {
    let folder = tempfile::tempdir().unwrap();
    let place = LakeSettings { url: url::Url::from_directory_path(folder.path()).unwrap(), options: BTreeMap::new() };
    let lake = Lake::connect(&place, &MaintenanceSettings::default(), Clock::system()).unwrap();
    let one = Model::from([(0, vec![(1, 1), (2, 2)])]);
    let first = Arc::new(build(&lake, &Model::new(), &one).await);
    let hash = async |table: &Arc<Table>, base: Option<u64>, max_keys| {
        let base = base.map(|version| Position {
            table_id: table.table_id().to_owned(),
            version: TableVersion(version),
            seq: 1,
            watermark_us: None,
            sent_version: None,
        });
        let request = PlanRequest {
            publication: publication(),
            model: Arc::clone(table),
            base,
            target: None,
            watermark_us: None,
            full: false,
            resend: false,
            max_keys,
            names_rows: true,
        };
        plan(request).await.unwrap().content_hash().to_owned()
    };
    assert_eq!(hash(&first, None, 100).await, hash(&first, None, 1).await);
    let two = Model::from([(0, vec![(2, 2), (1, 1)])]);
    let second = Arc::new(build(&lake, &one, &two).await);
    assert_eq!(hash(&first, None, 100).await, hash(&second, None, 100).await, "the order of rows is no content");
    let three = Model::from([(0, vec![(2, 2), (1, 5)])]);
    let third = Arc::new(build(&lake, &two, &three).await);
    assert_ne!(hash(&second, None, 100).await, hash(&third, None, 100).await);
}

/// What a first publication of many rows does without an index, it does as one with an index does: keys that several rows have,
/// in one partition and in several, and those that one row has.
#[tokio::test]
async fn a_target_without_rows_gets_the_last_row_of_each_key() {
    let folder = tempfile::tempdir().unwrap();
    let place = LakeSettings { url: url::Url::from_directory_path(folder.path()).unwrap(), options: BTreeMap::new() };
    let lake = Lake::connect(&place, &MaintenanceSettings::default(), Clock::system()).unwrap();
    let mut rows: Model = (0..4).map(|batch| (batch, (0..50).map(|key| (key + 50 * batch, 1)).collect())).collect();
    rows.get_mut(&1).unwrap().extend([(60, 2), (60, 3), (7, 4)]);
    rows.get_mut(&3).unwrap().extend([(60, 5), (8, 6), (8, 7)]);
    let table = Arc::new(build(&lake, &Model::new(), &rows).await);
    let planned = async |max_keys, names_rows| {
        let request = PlanRequest {
            publication: publication(),
            model: Arc::clone(&table),
            base: None,
            target: None,
            watermark_us: None,
            full: false,
            resend: false,
            max_keys,
            names_rows,
        };
        plan(request).await.unwrap()
    };
    let (whole, fresh, unnamed) = (planned(1_000, true).await, planned(20, true).await, planned(20, false).await);
    for changes in [&whole, &fresh, &unnamed] {
        let mut target = Target::new();
        changes.visit(&mut Applier(&mut target)).await.unwrap();
        assert_eq!(target, wanted(&rows));
        assert_eq!((changes.counts().inserted, changes.num_changes()), (200, 200));
        assert_eq!(changes.changed_partitions().await.unwrap().len(), 4);
    }
    assert_eq!(whole.content_hash(), fresh.content_hash());
    assert!(whole.took_slices() && !fresh.took_slices() && !unnamed.took_slices());
}
