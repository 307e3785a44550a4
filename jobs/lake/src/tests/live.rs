//! A file of a checkpoint is the file that the log told of, whatever is asked of it and in which order.

use std::collections::BTreeMap;

use serde_json::json;

use super::{committed, id, memory, partition, request, spec};
use crate::maintain::maybe_checkpoint;
use crate::{ColumnStats, DataFile, LEAF_TAG, Table};

/// More files than two row groups of a checkpoint hold, in an order that is not that of their paths.
const NUM_FILES: u32 = 2_500;

/// A file as a commit tells of it. Nobody reads it.
fn file(number: u32) -> DataFile {
    let day = number % 28 + 1;
    let stats = |min: i64, max: i64| ColumnStats { min: Some(json!(min)), max: Some(json!(max)), null_count: Some(0) };
    let mut file = DataFile {
        path: format!("event_date=2025-03-{day:02}/part {number} 100%.parquet"),
        size: u64::from(number) + 1,
        modified_ms: 1_741_478_400_000 + i64::from(number),
        partition_values: partition(day),
        num_records: Some(u64::from(number) * 3),
        stats: BTreeMap::from([("value".to_owned(), stats(i64::from(number), i64::from(number) + 9))]),
        tags: BTreeMap::new(),
    };
    match number % 5 {
        0 => file.partition_values = BTreeMap::from([("event_date".to_owned(), None)]),
        1 => (file.num_records, file.stats) = (None, BTreeMap::new()),
        2 => file.tags = BTreeMap::from([(LEAF_TAG.to_owned(), "7".to_owned())]),
        _ => {}
    }
    file
}

fn assert_same(opened: &Table, written: &Table) {
    for (one, other) in opened.live_files().zip(written.live_files()) {
        // The count alone, before anything else was asked for.
        assert_eq!((one.path(), one.size(), one.num_records()), (other.path(), other.size(), other.num_records()));
        assert_eq!(one.partition_value("event_date"), other.partition_value("event_date"));
        assert_eq!(one.partition_value("event_hour"), None);
    }
    let null = BTreeMap::from([("event_date".to_owned(), None)]);
    for values in [partition(3), partition(31), null, BTreeMap::from([("event_hour".to_owned(), None)])] {
        assert_eq!(opened.files_of(&values), written.files_of(&values), "{values:?}");
    }
    assert_eq!(opened.files(), written.files());
}

#[tokio::test]
async fn files_of_a_checkpoint_are_those_of_the_log() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    let add: Vec<DataFile> = (0..NUM_FILES).map(|number| file(number * 7 % NUM_FILES)).collect();
    committed(table.commit(request(&world.lake, add, Vec::new())).await.unwrap());
    assert!(maybe_checkpoint(&table).await.unwrap());
    assert_same(&world.neighbour().open(&id()).await.unwrap().unwrap(), &table);

    // What goes and comes afterwards, in a table that was opened from the checkpoint, and in the checkpoint that it makes.
    let mut opened = world.neighbour().open(&id()).await.unwrap().unwrap();
    let before = opened.clone();
    let gone = vec![file(4), file(NUM_FILES - 1)];
    let come = vec![DataFile { path: "event_date=2025-03-09/late".to_owned(), ..file(8) }];
    committed(opened.commit(request(&world.lake, come, gone)).await.unwrap());
    assert_same(&before, &table);
    table.refresh().await.unwrap();
    assert_same(&opened, &table);
    assert_eq!(opened.num_files(), NUM_FILES as usize - 1);
    crate::maintain::checkpoint_for_test(&opened).await.unwrap();
    let again = world.neighbour().open(&id()).await.unwrap().unwrap();
    assert_same(&again, &table);
    // One question out of order decodes no more than it needs, and the same.
    let last = again.live_file("event_date=2025-03-09/late").unwrap();
    assert_eq!(last.data_file(), table.live_file("event_date=2025-03-09/late").unwrap().data_file());
}
