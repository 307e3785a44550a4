//! A table takes on another shape in one commit: readers see the old rows or the new ones, and never none.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use futures::TryStreamExt as _;
use tidemill_project::{Diagnostic as _, ErrorKind, TableVersion};

use super::{append, committed, id, memory, partition, request, rows, spec, values};
use crate::{CommitOutcome, PartitionedBatch, TableSpec};

/// The same table with a text for the number, one column less, and no partitions.
fn reshaped_spec() -> TableSpec {
    let schema = Schema::new(vec![
        Field::new("value", DataType::Utf8, true),
        Field::new("event_date", DataType::Utf8, true),
        Field::new("weight", DataType::Int64, true),
    ]);
    TableSpec {
        schema: Arc::new(schema),
        partition_columns: Vec::new(),
        bloom_columns: Vec::new(),
        description: "another shape".to_owned(),
        ..spec()
    }
}

fn reshaped_rows() -> PartitionedBatch {
    let batch = RecordBatch::try_from_iter([
        ("value", Arc::new(StringArray::from(vec!["one", "two"])) as arrow::array::ArrayRef),
        ("event_date", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("weight", Arc::new(Int64Array::from(vec![1, 2]))),
    ]);
    PartitionedBatch {
        partition_values: std::collections::BTreeMap::new(),
        batches: vec![batch.unwrap()],
        tags: std::collections::BTreeMap::new(),
    }
}

#[tokio::test]
async fn another_shape_and_its_rows_are_one_commit_and_the_history_stays() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    append(&mut table, rows(9, 0..10)).await;
    append(&mut table, rows(10, 10..20)).await;

    let mut other = table.reshape(&reshaped_spec()).unwrap();
    let add = other.write_files(vec![reshaped_rows()]).await.unwrap();
    // Nothing is to be seen before the commit.
    assert_eq!(world.lake.open(&id()).await.unwrap().unwrap().schema(), table.schema());
    let remove = other.files();
    assert_eq!(
        committed(other.commit(request(&world.lake, add, remove)).await.unwrap()),
        TableVersion(3),
        "one commit, not a table that is made again"
    );

    let again = world.lake.open(&id()).await.unwrap().unwrap();
    assert_eq!((again.table_id(), again.partition_columns()), (table.table_id(), &[][..]));
    assert_eq!(again.schema(), other.schema());
    assert!(again.properties().get(crate::schema::BLOOM_COLUMNS).is_none());
    let read: Vec<_> = again.read_files(again.files(), None).try_collect().await.unwrap();
    assert_eq!(read[0].column(0).as_string::<i32>().value(1), "two");
    let old = world.lake.open_at(&id(), TableVersion(2)).await.unwrap();
    assert_eq!((values(&old).await.len(), old.partition_columns().len()), (20, 1), "the past keeps its shape");
    // A handle from before finds its way.
    let seen = table.refresh().await.unwrap();
    assert!(seen[0].changes_schema && seen[0].data_change);
    assert_eq!(table.schema(), again.schema());
}

#[tokio::test]
async fn a_file_of_the_old_shape_may_not_stay() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    append(&mut table, rows(9, 0..10)).await;
    append(&mut table, rows(10, 10..20)).await;
    let mut other = table.reshape(&reshaped_spec()).unwrap();
    let remove = other.files_of(&partition(9));
    let error = other.commit(request(&world.lake, Vec::new(), remove)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bug);
    assert_eq!(world.lake.open(&id()).await.unwrap().unwrap().version(), TableVersion(2), "nothing was written");
}

#[tokio::test]
async fn a_lost_race_keeps_the_shape_and_shows_the_winners_files() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    append(&mut table, rows(9, 0..10)).await;
    let mut other = table.reshape(&reshaped_spec()).unwrap();
    let add = other.write_files(vec![reshaped_rows()]).await.unwrap();
    append(&mut table, rows(10, 10..20)).await;
    let remove = other.files();
    let outcome = other.commit(request(&world.lake, add.clone(), remove)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Lost(winners) if winners.len() == 1));
    let remove = other.files();
    assert_eq!(remove.len(), 2);
    committed(other.commit(request(&world.lake, add, remove)).await.unwrap());
    let again = world.lake.open(&id()).await.unwrap().unwrap();
    assert_eq!((again.num_files(), again.schema()), (1, other.schema()));
}

/// Checkpoints carry the newest shape, and delta-rs reads it.
#[tokio::test]
async fn another_shape_survives_a_checkpoint() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    append(&mut table, rows(9, 0..10)).await;
    let mut other = table.reshape(&reshaped_spec()).unwrap();
    let add = other.write_files(vec![reshaped_rows()]).await.unwrap();
    let remove = other.files();
    committed(other.commit(request(&world.lake, add, remove)).await.unwrap());
    while other.version() < TableVersion(10) {
        committed(other.commit(request(&world.lake, Vec::new(), Vec::new())).await.unwrap());
    }
    assert!(crate::maintain::maybe_checkpoint(&other).await.unwrap());
    let again = world.lake.open(&id()).await.unwrap().unwrap();
    assert_eq!(again.schema(), other.schema());
    let foreign = crate::foreign::open(&world.lake, again.store.clone(), None).await.unwrap();
    let names = |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&foreign.provider().unwrap().schema()), ["value", "event_date", "weight"]);
    assert_eq!(foreign.num_files(), 1);
}
