//! The commit primitive and what is kept in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Field};
use futures::TryStreamExt as _;
use tidemill_project::{Diagnostic as _, ErrorKind, TableVersion};

use super::{append, committed, day, folder, id, memory, note, partition, request, rows, spec, values};
use crate::metadata::Act;
use crate::{CommitOutcome, TableId};

#[tokio::test]
async fn memory_gives_what_a_store_must_give() {
    let world = memory();
    let seed = std::sync::atomic::AtomicU64::new(100);
    crate::testsuite::all(|| world.client(seed.fetch_add(1, std::sync::atomic::Ordering::Relaxed))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_local_folder_gives_what_a_store_must_give() {
    let (lake, _dir) = folder();
    crate::testsuite::all(|| lake.clone()).await;
}

#[tokio::test]
async fn what_was_appended_is_there_after_opening_again() {
    let (lake, _dir) = folder();
    assert!(lake.open(&id()).await.unwrap().is_none());
    let mut table = lake.open_or_create(&spec(), "test").await.unwrap();
    assert_eq!(committed(append(&mut table, rows(9, 0..100)).await), TableVersion(1));
    let files = table.write_files(vec![rows(10, 100..150), rows(11, 150..200)]).await.unwrap();
    let mut two = request(&lake, files, Vec::new());
    two.txns = BTreeMap::from([("kafka/zoner.user_activity/t/0".to_owned(), 200)]);
    assert_eq!(committed(table.commit(two).await.unwrap()), TableVersion(2));

    let again = lake.open(&id()).await.unwrap().unwrap();
    assert_eq!(again.version(), TableVersion(2));
    assert_eq!(again.table_id(), table.table_id());
    assert_eq!(again.schema(), table.schema());
    assert_eq!(again.partition_columns(), ["event_date"]);
    assert_eq!(again.files(), table.files());
    assert_eq!(again.files().len(), 3);
    assert_eq!(again.txn_version("kafka/zoner.user_activity/t/0"), Some(200));
    assert_eq!(again.txns(), table.txns());
    assert_eq!(values(&again).await, (0..200).collect::<Vec<_>>());
    assert_eq!(lake.list().await.unwrap(), vec![id()]);
}

#[tokio::test]
async fn files_tell_rows_bounds_and_partition() {
    let world = memory();
    let table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    let files = table.write_files(vec![rows(9, 5..10), rows(10, [])]).await.unwrap();
    let [file] = files.as_slice() else { panic!("a partition without rows yields no file") };
    assert!(file.path.starts_with("event_date=2025-03-09/part-") && file.path.ends_with(".zstd.parquet"));
    assert_eq!(file.num_records, Some(5));
    assert_eq!(file.partition_values, partition(9));
    let value = &file.stats["value"];
    assert_eq!((value.min.clone(), value.max.clone(), value.null_count), (Some(5.into()), Some(9.into()), Some(0)));
    assert_eq!(file.stats["event_at"].min, Some("2025-03-09T00:00:00.000005Z".into()));
    assert_eq!(file.stats["_key"].max, Some("k9".into()));
}

#[tokio::test]
async fn the_loser_of_a_race_sees_the_winner_and_may_commit_again() {
    let world = memory();
    let mut first = world.lake.open_or_create(&spec(), "test").await.unwrap();
    let neighbour = world.neighbour();
    let mut second = neighbour.open(&id()).await.unwrap().unwrap();

    let files = second.write_files(vec![rows(9, 10..20)]).await.unwrap();
    committed(append(&mut first, rows(9, 0..10)).await);
    let outcome = second.commit(request(&neighbour, files.clone(), Vec::new())).await.unwrap();
    let CommitOutcome::Lost(winners) = outcome else { panic!("both won version 1") };
    assert_eq!(winners.len(), 1);
    assert_eq!(winners[0].version, TableVersion(1));
    assert_eq!(winners[0].add, first.files());
    assert!(winners[0].data_change && !winners[0].changes_schema);
    assert_eq!(values(&second).await, (0..10).collect::<Vec<_>>());

    assert_eq!(committed(second.commit(request(&neighbour, files, Vec::new())).await.unwrap()), TableVersion(2));
    assert_eq!(first.refresh().await.unwrap().len(), 1);
    assert_eq!(first.files(), second.files());
    assert_eq!(values(&first).await, (0..20).collect::<Vec<_>>());
    assert!(first.refresh().await.unwrap().is_empty());
}

#[tokio::test]
async fn two_that_create_a_table_end_with_the_same_one() {
    let world = memory();
    let neighbour = world.neighbour();
    let spec = spec();
    let (left, right) =
        tokio::join!(world.lake.open_or_create(&spec, "left"), neighbour.open_or_create(&spec, "right"));
    assert_eq!(left.unwrap().table_id(), right.unwrap().table_id());
}

#[tokio::test]
async fn a_partition_is_replaced_as_a_whole() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    append(&mut table, rows(9, 0..10)).await;
    append(&mut table, rows(9, 10..20)).await;
    append(&mut table, rows(10, 20..30)).await;
    let add = table.write_files(vec![rows(9, 100..105)]).await.unwrap();
    let old = table.files_of(&partition(9));
    assert_eq!(old.len(), 2);
    committed(table.commit(request(&world.lake, add, old.clone())).await.unwrap());
    assert_eq!(values(&table).await, (20..30).chain(100..105).collect::<Vec<_>>());

    let commits = table.commits(Some(TableVersion(3)), TableVersion(4)).await.unwrap();
    let removed: Vec<_> =
        commits[0].remove.iter().map(|file| (&file.path, &file.partition_values, file.size)).collect();
    let mut expected: Vec<_> = old.iter().map(|file| (&file.path, &file.partition_values, file.size)).collect();
    expected.sort();
    assert_eq!(removed, expected);
}

#[tokio::test]
async fn removing_a_file_that_is_not_live_is_a_bug() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    append(&mut table, rows(9, 0..10)).await;
    let old = table.files();
    committed(table.commit(request(&world.lake, Vec::new(), old.clone())).await.unwrap());
    let error = table.commit(request(&world.lake, Vec::new(), old)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bug);
    assert_eq!(table.version(), TableVersion(2));
}

#[tokio::test]
async fn an_old_version_can_be_read_and_not_written() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    append(&mut table, rows(9, 0..10)).await;
    append(&mut table, rows(9, 10..20)).await;
    let mut old = world.lake.open_at(&id(), TableVersion(1)).await.unwrap();
    assert_eq!(values(&old).await, (0..10).collect::<Vec<_>>());
    assert!(old.refresh().await.unwrap().is_empty());
    assert_eq!(old.commit(request(&world.lake, Vec::new(), Vec::new())).await.unwrap_err().kind(), ErrorKind::Bug);
    assert!(world.lake.open_at(&id(), TableVersion(3)).await.is_err());
    assert!(world.lake.open_at(&TableId::quarantine(), TableVersion(0)).await.unwrap_err().is_missing());
}

#[tokio::test]
async fn a_column_that_was_added_is_null_in_older_files() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    append(&mut table, rows(9, 0..10)).await;
    let mut wider = spec();
    wider.schema =
        Arc::new(crate::schema::with_columns(&wider.schema, vec![Field::new("extra", DataType::Utf8, true)]));
    let error = world.lake.open_or_create(&wider, "test").await.unwrap_err();
    assert_eq!(error.code().unwrap().to_string(), "TM0203");

    let field = Field::new("extra", DataType::Utf8, true);
    committed(table.add_columns(vec![field.clone()], note(&world.lake)).await.unwrap());
    assert_eq!(committed(table.add_columns(vec![field], note(&world.lake)).await.unwrap()), TableVersion(2));
    let again = world.lake.open_or_create(&wider, "test").await.unwrap();
    assert_eq!(again.schema(), table.schema());
    let columns = vec!["event_date".to_owned(), "extra".to_owned()];
    let batches: Vec<RecordBatch> = again.read_files(again.files(), Some(columns)).try_collect().await.unwrap();
    assert_eq!(batches[0].column(1).null_count(), 10);
    assert_eq!(batches[0].column(0).as_primitive::<Date32Type>().value(0), 20_156, "{}", day(9));
    let commits = again.commits(Some(TableVersion(1)), TableVersion(2)).await.unwrap();
    assert!(commits[0].changes_schema && !commits[0].data_change);
}

#[tokio::test]
async fn the_newest_wanted_note_is_found_however_far_back() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    append(&mut table, rows(9, 0..10)).await;
    for _ in 0..40 {
        let mut nothing = request(&world.lake, Vec::new(), Vec::new());
        nothing.note.act = Act::Maintain;
        committed(table.commit(nothing).await.unwrap());
    }
    let is_ingest = |note: &crate::metadata::CommitNote| matches!(note.act, Act::Ingest(_));
    assert_eq!(table.last_note(is_ingest).await.unwrap().unwrap().0, TableVersion(1));
    crate::maintain::maintain(&world.lake, &id(), &crate::maintain::MaintainOptions::full("test")).await.unwrap();
    let again = world.lake.open(&id()).await.unwrap().unwrap();
    assert_eq!(again.last_note(is_ingest).await.unwrap().unwrap().0, TableVersion(1));
    assert!(again.last_note(|note| matches!(note.act, Act::Publish(_))).await.unwrap().is_none());
}

#[tokio::test]
async fn a_dropped_table_is_gone_and_can_be_made_again() {
    let (lake, _dir) = folder();
    let mut table = lake.open_or_create(&spec(), "test").await.unwrap();
    append(&mut table, rows(9, 0..10)).await;
    lake.drop_table(&id()).await.unwrap();
    lake.drop_table(&id()).await.unwrap();
    assert!(lake.open(&id()).await.unwrap().is_none());
    assert!(lake.list().await.unwrap().is_empty());
    let again = lake.open_or_create(&spec(), "test").await.unwrap();
    assert_ne!(again.table_id(), table.table_id());
    assert!(again.files().is_empty());
}

#[tokio::test]
async fn a_handle_that_outlived_its_table_is_told() {
    let world = memory();
    let mut old = world.lake.open_or_create(&spec(), "test").await.unwrap();
    world.lake.drop_table(&id()).await.unwrap();
    let mut new = world.lake.open_or_create(&spec(), "test").await.unwrap();
    append(&mut new, rows(9, 0..10)).await;
    let error = old.commit(request(&world.lake, Vec::new(), Vec::new())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(old.files().is_empty());
}

#[tokio::test]
async fn the_log_ends_at_its_first_gap() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    for number in 0..4 {
        append(&mut table, rows(9, [number])).await;
    }
    // As a reader may see it that asks for version 3 before it is there and for version 4 after.
    table.store.delete(vec![table.store.log_path(3)]).await.unwrap();
    let again = world.lake.open(&id()).await.unwrap().unwrap();
    assert_eq!(again.version(), TableVersion(2));
    assert_eq!(values(&again).await, [0, 1]);
}

#[tokio::test]
async fn the_bloom_filter_knows_which_keys_cannot_be_there() {
    let world = memory();
    let table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    let files = table.write_files(vec![rows(9, 0..1000)]).await.unwrap();
    let strange: Vec<String> = (0..1000).map(|number| format!("stranger-{number}")).collect();
    let asked: Vec<&str> = ["k0", "k999"].into_iter().chain(strange.iter().map(String::as_str)).collect();
    let maybe = table.may_contain(&files[0], "_key", &asked).await.unwrap();
    assert!(maybe[0] && maybe[1]);
    assert!(maybe[2..].iter().filter(|maybe| **maybe).count() < 50);
    assert_eq!(table.may_contain(&files[0], "event_at", &["x"]).await.unwrap(), [true]);
    assert_eq!(table.may_contain(&files[0], "younger", &["x"]).await.unwrap(), [false]);
}

#[tokio::test]
async fn special_characters_in_partition_values_survive_every_reader() {
    let (lake, _dir) = folder();
    let mut spec = spec();
    let batch = "2025-03-09T12:34 50%/ä#?";
    let mut fields: Vec<_> = spec.schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("_batch", DataType::Utf8, true)));
    spec.schema = Arc::new(arrow::datatypes::Schema::new(fields));
    spec.partition_columns = vec!["_batch".to_owned(), "event_date".to_owned()];
    let mut table = lake.open_or_create(&spec, "test").await.unwrap();
    let mut part = rows(9, 0..10);
    part.partition_values.insert("_batch".to_owned(), Some(batch.to_owned()));
    committed(append(&mut table, part).await);
    let again = lake.open(&id()).await.unwrap().unwrap();
    assert_eq!(again.files()[0].partition_values["_batch"].as_deref(), Some(batch));
    assert_eq!(values(&again).await, (0..10).collect::<Vec<_>>());
    // delta-rs reads the same log with its own eyes.
    let mut delta = deltalake::DeltaTable::new(again.store.log_store());
    delta.load().await.unwrap();
    let session = datafusion::prelude::SessionContext::new();
    session.register_table("t", delta.table_provider().await.unwrap()).unwrap();
    let found = session.sql("select _batch, value from t order by value").await.unwrap().collect().await.unwrap();
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
}

#[tokio::test]
async fn large_batches_are_split_at_the_target_size() {
    let world = memory();
    let table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    let mut part = rows(9, []);
    // Keys that do not compress, in batches small enough to be cut between.
    part.batches = (0..40_i64)
        .map(|number| {
            let base = number * 4096;
            let scattered =
                (base..base + 4096).map(|value| value.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed()));
            rows(9, scattered.map(|value| value.rem_euclid(i64::MAX))).batches.remove(0)
        })
        .collect();
    let files = table.write_files(vec![part]).await.unwrap();
    assert!(files.len() > 1, "{} files", files.len());
    assert_eq!(files.iter().filter_map(|file| file.num_records).sum::<u64>(), 40 * 4096);
    assert!(files.iter().all(|file| file.size < 3 << 20));
}

#[tokio::test]
async fn entries_of_other_writers_are_read() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    committed(append(&mut table, rows(9, 0..10)).await);
    let theirs = concat!(
        r#"{"commitInfo":{"timestamp":1741478400000,"operation":"WRITE","engineInfo":"Apache-Spark/3.5","isBlindAppend":true}}"#,
        "\n",
        r#"{"add":{"path":"event_date=2025-03-10/part-0%20x.parquet","partitionValues":{"event_date":"2025-03-10"},"#,
        r#""size":10,"modificationTime":5,"dataChange":true,"stats":"{\"numRecords\":3}","baseRowId":1}}"#,
        "\n\n",
        r#"{"domainMetadata":{"domain":"x","configuration":"{}","removed":false}}"#,
    );
    let path = table.store.log_path(2);
    object_store::ObjectStoreExt::put(&world.store, &path, theirs.into()).await.unwrap();
    let commits = table.refresh().await.unwrap();
    assert_eq!(commits.len(), 1);
    assert_eq!((commits[0].timestamp_ms, commits[0].operation.as_str()), (1_741_478_400_000, "WRITE"));
    assert!(commits[0].note.is_none());
    assert_eq!(commits[0].add[0].path, "event_date=2025-03-10/part-0 x.parquet");
    assert_eq!(commits[0].add[0].num_records, Some(3));
    assert_eq!(table.files().len(), 2);
}

#[tokio::test]
async fn a_table_with_unknown_features_is_not_written() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    let theirs = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#;
    let path = table.store.log_path(1);
    object_store::ObjectStoreExt::put(&world.store, &path, theirs.into()).await.unwrap();
    table.refresh().await.unwrap();
    let error = table.commit(request(&world.lake, Vec::new(), Vec::new())).await.unwrap_err();
    assert_eq!((error.kind(), error.code().unwrap().to_string().as_str()), (ErrorKind::Invalid, "TM0202"));
}
