//! The local warehouse through the public door: a lake and a warehouse in folders.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use futures::TryStreamExt;
use tidemill_lake::metadata::{Act, CommitNote, TransformNote};
use tidemill_lake::{CommitRequest, Lake, PartitionedBatch, Table, TableId, TableSpec};
use tidemill_project::clock::Clock;
use tidemill_project::config::{LakeSettings, MaintenanceSettings, Settings, WarehouseSettings};
use tidemill_project::{Diagnostic, ErrorKind, Location};
use tokio_util::sync::CancellationToken;

use crate::{
    BATCH_COLUMN, ChangeCounts, Outcome, Publication, PublishRequest, PublishedTable, Silent, Strategy, TargetTable,
};

struct World {
    _folder: tempfile::TempDir,
    settings: Settings,
    lake: Lake,
    warehouse: Lake,
}

type Row = (&'static str, Option<&'static str>, i64);

fn counts(inserted: u64, updated: u64, deleted: u64) -> ChangeCounts {
    ChangeCounts { inserted, updated, deleted }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| LakeSettings {
            url: url::Url::from_directory_path(folder.path().join(name)).unwrap(),
            options: BTreeMap::new(),
        };
        let maintenance = MaintenanceSettings::default();
        let lake = Lake::connect(&place("lake"), &maintenance, Clock::system()).unwrap();
        let warehouse = Lake::connect(&place("warehouse"), &maintenance, Clock::system()).unwrap();
        let settings = Settings {
            name: "test".into(),
            project_dir: folder.path().to_path_buf(),
            models_dir: folder.path().to_path_buf(),
            target: "test".into(),
            kafka: None,
            lake: place("lake"),
            warehouse: WarehouseSettings::Local(place("warehouse")),
            collect: None,
            registry: None,
            sinks: tidemill_project::config::SinkSettings::default(),
            ingest: tidemill_project::config::IngestSettings::default(),
            transform: tidemill_project::config::TransformSettings::default(),
            maintenance,
        };
        Self { _folder: folder, settings, lake, warehouse }
    }

    async fn model(&self) -> Table {
        let spec = TableSpec {
            id: TableId::model("main", "nights"),
            schema: Arc::new(Schema::new(vec![
                Field::new("user_id", DataType::Utf8, true),
                Field::new("minutes", DataType::Int64, true),
                Field::new(BATCH_COLUMN, DataType::Utf8, true),
            ])),
            partition_columns: vec![BATCH_COLUMN.to_owned()],
            bloom_columns: Vec::new(),
            description: String::new(),
        };
        self.lake.open_or_create(&spec, "test").await.unwrap()
    }

    /// Replaces whole batches of the model, as a microbatch build does.
    async fn build(&self, batches: &[&'static str], rows: &[Row]) {
        let mut table = self.model().await;
        let mut add = Vec::new();
        let mut remove = Vec::new();
        for batch in batches {
            let values = BTreeMap::from([(BATCH_COLUMN.to_owned(), Some((*batch).to_owned()))]);
            remove.extend(table.files_of(&values));
            let rows: Vec<_> = rows.iter().filter(|row| row.0 == *batch).collect();
            if rows.is_empty() {
                continue;
            }
            let schema = Schema::new(vec![
                Field::new("user_id", DataType::Utf8, true),
                Field::new("minutes", DataType::Int64, true),
            ]);
            let columns: Vec<arrow::array::ArrayRef> = vec![
                Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
            ];
            let batches = vec![RecordBatch::try_new(Arc::new(schema), columns).unwrap()];
            let files =
                table.write_files(vec![PartitionedBatch { partition_values: values, batches, tags: BTreeMap::new() }]);
            add.extend(files.await.unwrap());
        }
        let note = CommitNote {
            commit_id: self.lake.clock().new_id(),
            run_id: "test".into(),
            act: Act::Transform(TransformNote::default()),
        };
        let request = CommitRequest { add, remove, txns: BTreeMap::new(), operation: "WRITE", data_change: true, note };
        table.commit(request).await.unwrap();
    }

    async fn publish_with(&self, change: impl FnOnce(&mut PublishRequest)) -> crate::Result<PublishedTable> {
        let mut request =
            PublishRequest { publications: vec![publication()], run_id: "run".into(), full: false, dry_run: false };
        change(&mut request);
        let report = crate::publish(&self.settings, &self.lake, request, &Silent, &CancellationToken::new()).await?;
        Ok(report.tables.into_iter().next().unwrap())
    }

    async fn publish(&self) -> PublishedTable {
        self.publish_with(|_| ()).await.unwrap()
    }

    async fn target(&self) -> Table {
        let id = TableId::Warehouse { database: "ZONER_DB".into(), schema: "MARTS".into(), table: "NIGHTS".into() };
        self.warehouse.open(&id).await.unwrap().expect("the target exists")
    }

    async fn rows(&self) -> Vec<(String, i64)> {
        let table = self.target().await;
        let batches: Vec<RecordBatch> = table.read_files(table.files(), None).try_collect().await.unwrap();
        let mut rows: Vec<_> = batches
            .iter()
            .flat_map(|batch| {
                let users = batch.column_by_name("user_id").unwrap().as_string::<i32>().clone();
                let minutes = batch.column_by_name("minutes").unwrap().as_primitive::<Int64Type>().clone();
                (0..batch.num_rows())
                    .map(move |row| (users.value(row).to_owned(), minutes.value(row)))
                    .collect::<Vec<_>>()
            })
            .collect();
        rows.sort();
        rows
    }
}

fn publication() -> Publication {
    Publication {
        model: TableId::model("main", "nights"),
        model_name: "nights".into(),
        target: TargetTable { database: "ZONER_DB".into(), schema: "MARTS".into(), table: "NIGHTS".into() }.into(),
        unique_key: vec!["user_id".into()],
        strategy: Strategy::Merge,
        columns: None,
        json_columns: Vec::new(),
        filter: None,
        messages: None,
        location: Location::new("nights.yml", 3, 1),
    }
}

fn pairs(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|(user, minutes)| ((*user).to_owned(), *minutes)).collect()
}

#[tokio::test]
async fn a_model_that_was_never_built_is_no_error() {
    let table = World::new().publish().await;
    assert_eq!((table.outcome, table.to), (Outcome::NotBuilt, None));
}

#[tokio::test]
async fn the_first_publication_sends_all_rows_and_the_second_nothing() {
    let world = World::new();
    world.build(&["d1", "d2"], &[("d1", Some("a"), 1), ("d2", Some("b"), 2)]).await;
    let first = world.publish().await;
    assert_eq!((first.outcome, first.counts, first.seq), (Outcome::Published, counts(2, 0, 0), Some(1)));
    assert_eq!(world.rows().await, pairs(&[("a", 1), ("b", 2)]));
    let version = world.target().await.version();
    let second = world.publish().await;
    assert_eq!((second.outcome, second.counts), (Outcome::UpToDate, counts(0, 0, 0)));
    assert_eq!(world.target().await.version(), version, "nothing new writes nothing");
}

#[tokio::test]
async fn inserts_updates_and_deletes_arrive_and_other_partitions_keep_their_files() {
    let world = World::new();
    world.build(&["d1", "d2"], &[("d1", Some("a"), 1), ("d1", Some("b"), 1), ("d2", Some("c"), 1)]).await;
    world.publish().await;
    let untouched: Vec<_> = world
        .target()
        .await
        .files()
        .into_iter()
        .filter(|file| file.partition_values[BATCH_COLUMN].as_deref() == Some("d2"))
        .collect();
    world.build(&["d1"], &[("d1", Some("a"), 5), ("d1", Some("x"), 7)]).await;
    let table = world.publish().await;
    assert_eq!(table.counts, counts(1, 1, 1));
    assert_eq!(world.rows().await, pairs(&[("a", 5), ("c", 1), ("x", 7)]));
    let files = world.target().await.files();
    assert!(untouched.iter().all(|file| files.contains(file)), "a batch that did not change is not rewritten");
}

#[tokio::test]
async fn a_rebuild_with_the_same_rows_sends_nothing() {
    let world = World::new();
    world.build(&["d1"], &[("d1", Some("a"), 1)]).await;
    world.publish().await;
    let files = world.target().await.files();
    world.build(&["d1"], &[("d1", Some("a"), 1)]).await;
    let table = world.publish().await;
    assert_eq!((table.outcome, table.counts), (Outcome::UpToDate, counts(0, 0, 0)));
    assert_eq!(world.target().await.files(), files);
    let again = world.publish().await;
    assert_eq!(again.to, table.to, "the version that was looked at is remembered");
}

#[tokio::test]
async fn a_key_that_moves_to_another_batch_stays_one_row() {
    let world = World::new();
    world.build(&["d1", "d2"], &[("d1", Some("a"), 1), ("d2", Some("b"), 2)]).await;
    world.publish().await;
    world.build(&["d1", "d2"], &[("d2", Some("a"), 1), ("d2", Some("b"), 2)]).await;
    let table = world.publish().await;
    assert_eq!(table.counts, counts(0, 1, 0));
    assert_eq!(world.rows().await, pairs(&[("a", 1), ("b", 2)]));
}

#[tokio::test]
async fn the_last_of_duplicate_keys_wins() {
    let world = World::new();
    world.build(&["d1", "d2"], &[("d1", Some("a"), 1), ("d1", Some("a"), 2), ("d2", Some("a"), 3)]).await;
    world.publish().await;
    assert_eq!(world.rows().await, pairs(&[("a", 3)]));
}

#[tokio::test]
async fn a_null_key_is_refused_by_name() {
    let world = World::new();
    world.build(&["d1"], &[("d1", None, 1), ("d1", Some("a"), 1)]).await;
    let error = world.publish_with(|_| ()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "a key column is null in a row to publish, model=`nights`, column=`user_id`, rows=`1`"
    );
    assert_eq!((error.kind(), error.location().map(|location| location.line)), (ErrorKind::Invalid, Some(3)));
}

#[tokio::test]
async fn full_repairs_a_target_that_somebody_edited() {
    let world = World::new();
    world.build(&["d1"], &[("d1", Some("a"), 1), ("d1", Some("b"), 2)]).await;
    world.publish().await;
    let mut target = world.target().await;
    let note = CommitNote { commit_id: world.lake.clock().new_id(), run_id: "x".into(), act: Act::Maintain };
    let remove = target.files();
    target
        .commit(CommitRequest {
            add: vec![],
            remove,
            txns: BTreeMap::new(),
            operation: "DELETE",
            data_change: true,
            note,
        })
        .await
        .unwrap();
    let checked =
        crate::check(&world.settings, &world.lake, &[publication()], &CancellationToken::new()).await.unwrap();
    assert_eq!((checked[0].missing, checked[0].extra, checked[0].different), (2, 0, 0));
    assert_eq!(world.publish().await.outcome, Outcome::UpToDate, "the version says that nothing is new");
    let table = world.publish_with(|request| request.full = true).await.unwrap();
    assert_eq!(table.counts, counts(2, 0, 0));
    assert_eq!(world.rows().await, pairs(&[("a", 1), ("b", 2)]));
    let checked =
        crate::check(&world.settings, &world.lake, &[publication()], &CancellationToken::new()).await.unwrap();
    assert!(checked[0].is_equal(), "{checked:?}");
}

#[tokio::test]
async fn a_model_that_was_made_again_is_compared_whole() {
    let world = World::new();
    world.build(&["d1"], &[("d1", Some("a"), 1), ("d1", Some("b"), 2)]).await;
    world.publish().await;
    world.lake.drop_table(&TableId::model("main", "nights")).await.unwrap();
    world.build(&["d1"], &[("d1", Some("a"), 1), ("d1", Some("c"), 3)]).await;
    let table = world.publish().await;
    assert_eq!((table.from, table.counts, table.seq), (None, counts(1, 0, 1), Some(2)));
    assert_eq!(world.rows().await, pairs(&[("a", 1), ("c", 3)]));
}

#[tokio::test]
async fn a_dry_run_counts_and_writes_nothing() {
    let world = World::new();
    world.build(&["d1"], &[("d1", Some("a"), 1)]).await;
    let table = world.publish_with(|request| request.dry_run = true).await.unwrap();
    assert_eq!((table.outcome, table.counts), (Outcome::Planned, counts(1, 0, 0)));
    assert_eq!(world.warehouse.list().await.unwrap(), []);
}

#[tokio::test]
async fn rows_without_a_key_are_kept_as_often_as_they_are_there() {
    let world = World::new();
    let keyless = |request: &mut PublishRequest| {
        request.publications[0].unique_key.clear();
        request.publications[0].strategy = Strategy::ReplaceBatches;
    };
    world.build(&["d1"], &[("d1", Some("a"), 1), ("d1", Some("a"), 1), ("d1", Some("b"), 2)]).await;
    world.publish_with(keyless).await.unwrap();
    assert_eq!(world.rows().await, pairs(&[("a", 1), ("a", 1), ("b", 2)]));
    world.build(&["d1"], &[("d1", Some("a"), 1), ("d1", Some("b"), 2), ("d1", Some("b"), 2)]).await;
    let table = world.publish_with(keyless).await.unwrap();
    assert_eq!(table.counts, counts(1, 0, 1));
    assert_eq!(world.rows().await, pairs(&[("a", 1), ("b", 2), ("b", 2)]));
}

#[tokio::test]
async fn rows_that_leave_an_append_only_model_are_an_error() {
    let world = World::new();
    let append = |request: &mut PublishRequest| request.publications[0].strategy = Strategy::AppendOnly;
    world.build(&["d1"], &[("d1", Some("a"), 1)]).await;
    world.publish_with(append).await.unwrap();
    world.build(&["d2"], &[("d2", Some("b"), 1)]).await;
    assert_eq!(world.publish_with(append).await.unwrap().counts, counts(1, 0, 0));
    world.build(&["d1"], &[]).await;
    let error = world.publish_with(append).await.unwrap_err();
    assert_eq!((error.kind(), error.code().map(|code| code.0)), (ErrorKind::Invalid, Some(503)));
    assert_eq!(world.rows().await, pairs(&[("a", 1), ("b", 1)]));
}

#[tokio::test]
async fn columns_can_be_chosen_and_renamed() {
    let world = World::new();
    world.build(&["d1"], &[("d1", Some("a"), 1)]).await;
    let renamed = |request: &mut PublishRequest| {
        request.publications[0].columns = Some(vec![("user_id".into(), "USER".into())]);
    };
    world.publish_with(renamed).await.unwrap();
    let schema = world.target().await.schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["USER", BATCH_COLUMN]);
}

#[tokio::test]
async fn a_column_that_the_model_does_not_have_is_a_configuration_error() {
    let world = World::new();
    world.build(&["d1"], &[("d1", Some("a"), 1)]).await;
    let error =
        world.publish_with(|request| request.publications[0].unique_key = vec!["user".into()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(
        error.to_string(),
        "publication names a column that the model does not have, model=`nights`, column=`user`"
    );
}

#[tokio::test]
async fn compaction_of_the_model_is_not_a_change() {
    let world = World::new();
    world.build(&["d1"], &[("d1", Some("a"), 1)]).await;
    world.publish().await;
    let mut model = world.model().await;
    let files = model.files();
    let rows: Vec<RecordBatch> = model.read_files(files.clone(), None).try_collect().await.unwrap();
    let rows = rows.iter().map(|batch| batch.project(&[0, 1]).unwrap()).collect();
    let written = model
        .write_files(vec![PartitionedBatch {
            partition_values: files[0].partition_values.clone(),
            batches: rows,
            tags: BTreeMap::new(),
        }])
        .await
        .unwrap();
    let note = CommitNote { commit_id: world.lake.clock().new_id(), run_id: "x".into(), act: Act::Maintain };
    let request = CommitRequest {
        add: written,
        remove: files,
        txns: BTreeMap::new(),
        operation: "OPTIMIZE",
        data_change: false,
        note,
    };
    model.commit(request).await.unwrap();
    let table = world.publish().await;
    assert_eq!((table.outcome, table.counts), (Outcome::UpToDate, counts(0, 0, 0)));
}

#[tokio::test]
async fn the_positions_say_what_is_published_and_what_is_newest() {
    let world = World::new();
    world.build(&["d1"], &[("d1", Some("a"), 1)]).await;
    world.publish().await;
    world.build(&["d1"], &[("d1", Some("a"), 2)]).await;
    let versions = crate::published_versions(&world.settings, &world.lake, &[publication()]).await.unwrap();
    let version = &versions[0];
    assert_eq!(version.version.map(tidemill_project::TableVersion::next), version.newest);
    assert_eq!(version.seq, Some(1));
}
