//! Care of tables, beside those who use them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt as _;
use tidemill_project::TableVersion;

use super::{World, append, committed, id, memory, note, partition, request, rows, spec, values};
use crate::maintain::{MaintainOptions, Scope, maintain, maybe_checkpoint};
use crate::metadata::Act;
use crate::{CommitOutcome, DataFile, Table};

async fn appended(world: &World, commits: i64) -> Table {
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    for number in 0..commits {
        let mut one = request(
            &world.lake,
            table.write_files(vec![rows(9, number * 10..number * 10 + 10)]).await.unwrap(),
            Vec::new(),
        );
        one.txns.insert("kafka/zoner.user_activity/t/0".to_owned(), number * 10 + 10);
        committed(table.commit(one).await.unwrap());
    }
    table
}

async fn objects(world: &World, folder: &object_store::path::Path) -> Vec<String> {
    let listed: Vec<_> = world.store.list(Some(folder)).try_collect().await.unwrap();
    let mut names: Vec<_> = listed.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_table_opened_from_a_checkpoint_is_the_same() {
    let world = memory();
    let mut table = appended(&world, 9).await;
    assert!(!maybe_checkpoint(&table).await.unwrap());
    let mut tagged = table.write_files(vec![rows(10, 1000..1010)]).await.unwrap();
    tagged[0].tags.insert("origin".to_owned(), "test".to_owned());
    committed(table.commit(request(&world.lake, tagged, table.files_of(&partition(9))[..2].to_vec())).await.unwrap());
    assert_eq!(table.version(), TableVersion(10));
    assert!(maybe_checkpoint(&table).await.unwrap());
    assert!(!maybe_checkpoint(&table).await.unwrap());
    append(&mut table, rows(11, 2000..2010)).await;

    let again = world.lake.open(&id()).await.unwrap().unwrap();
    assert_eq!(again.version(), table.version());
    assert_eq!(again.files(), table.files());
    assert_eq!(again.txns(), table.txns());
    assert_eq!(again.table_id(), table.table_id());
    assert_eq!(again.properties(), table.properties());
    assert_eq!(values(&again).await, values(&table).await);
    // Versions before and after the checkpoint can still be opened.
    assert_eq!(world.lake.open_at(&id(), TableVersion(4)).await.unwrap().files().len(), 4);
    assert_eq!(world.lake.open_at(&id(), TableVersion(10)).await.unwrap().files().len(), 8);
}

#[tokio::test]
async fn opening_does_not_read_what_lies_before_the_checkpoint() {
    let world = memory();
    let table = appended(&world, 20).await;
    assert!(maybe_checkpoint(&table).await.unwrap());
    for version in 0..20 {
        table.store.delete(vec![table.store.log_path(version)]).await.unwrap();
    }
    let again = world.lake.open(&id()).await.unwrap().unwrap();
    assert_eq!((again.version(), again.files()), (table.version(), table.files()));
    assert!(again.commits(Some(TableVersion(3)), TableVersion(20)).await.unwrap_err().is_version_gone());
    assert!(world.lake.open_at(&id(), TableVersion(7)).await.unwrap_err().is_version_gone());
}

#[tokio::test]
async fn compaction_changes_files_and_no_rows() {
    let world = memory();
    let mut table = appended(&world, 6).await;
    let before = values(&table).await;
    let report = maintain(&world.lake, &id(), &MaintainOptions::full("test")).await.unwrap();
    assert_eq!((report.compacted_partitions, report.files_removed, report.files_added), (1, 6, 1));
    let commits = table.refresh().await.unwrap();
    assert!(!commits[0].data_change);
    assert_eq!(commits[0].note.as_ref().unwrap().act, Act::Maintain);
    assert_eq!(table.files().len(), 1);
    assert_eq!(table.files()[0].num_records, Some(60));
    assert_eq!(values(&table).await, before);
    assert_eq!(table.may_contain(&table.files()[0], "_key", &["k5", "k59"]).await.unwrap(), [true, true]);
    let second = maintain(&world.lake, &id(), &MaintainOptions::full("test")).await.unwrap();
    assert_eq!((second.files_removed, second.log_objects_deleted, second.data_files_deleted), (0, 0, 0));
}

#[tokio::test]
async fn a_dry_run_tells_and_does_nothing() {
    let world = memory();
    let mut table = appended(&world, 10).await;
    let options = MaintainOptions { dry_run: true, ..MaintainOptions::full("test") };
    let report = maintain(&world.lake, &id(), &options).await.unwrap();
    assert_eq!((report.files_removed, report.checkpoint), (10, Some(TableVersion(10))));
    assert!(table.refresh().await.unwrap().is_empty());
    assert!(!objects(&world, &table.store.log_folder()).await.iter().any(|name| name.contains("checkpoint")));
}

#[tokio::test]
async fn a_spent_budget_leaves_the_rest_for_later() {
    let world = memory();
    appended(&world, 6).await;
    let options = MaintainOptions { max_rewrite_bytes: 1, scope: Scope::Light, ..MaintainOptions::full("test") };
    let report = maintain(&world.lake, &id(), &options).await.unwrap();
    assert!(report.is_budget_spent);
    assert_eq!(report.files_removed, 0);
}

#[tokio::test]
async fn compaction_beside_appends_loses_nothing() {
    let world = memory();
    let mut table = appended(&world, 6).await;
    let neighbour = world.neighbour();
    let mut other = neighbour.open(&id()).await.unwrap().unwrap();
    let rounds = AtomicU64::new(0);
    let writer = async {
        for number in 100..130 {
            let files = other.write_files(vec![rows(9, number * 10..number * 10 + 10)]).await.unwrap();
            while let CommitOutcome::Lost(_) =
                other.commit(request(&neighbour, files.clone(), Vec::new())).await.unwrap()
            {
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let carer = async {
        for _ in 0..10 {
            maintain(&world.lake, &id(), &MaintainOptions::full("test")).await.unwrap();
        }
    };
    tokio::join!(writer, carer);
    table.refresh().await.unwrap();
    assert_eq!(values(&table).await, (0..60).chain(1000..1300).collect::<Vec<_>>());
}

#[tokio::test]
async fn compaction_of_files_that_were_replaced_meanwhile_is_dropped() {
    let world = memory();
    let mut table = appended(&world, 6).await;
    // The carer's view is old: its inputs are replaced before it commits.
    let mut carer = world.neighbour().open(&id()).await.unwrap().unwrap();
    let add = table.write_files(vec![rows(9, [7])]).await.unwrap();
    committed(table.commit(request(&world.lake, add, table.files())).await.unwrap());
    let mut report = crate::maintain::MaintainReport::default();
    let stopwatch = world.lake.clock().stopwatch();
    crate::maintain::compact_for_test(&mut carer, &MaintainOptions::full("test"), stopwatch, &mut report)
        .await
        .unwrap();
    assert_eq!((report.compactions_dropped, report.files_removed), (1, 0));
    assert_eq!(values(&carer).await, [7]);
    assert_eq!(table.refresh().await.unwrap().len(), 0);
}

#[tokio::test]
async fn vacuum_deletes_what_nobody_needs_and_nothing_else() {
    let world = memory();
    let mut table = appended(&world, 6).await;
    // Written and never committed: a crash, or a writer that is about to commit.
    let orphan = table.write_files(vec![rows(9, 500..510)]).await.unwrap();
    let old = table.files();
    let add = table.write_files(vec![rows(9, 0..60)]).await.unwrap();
    committed(table.commit(request(&world.lake, add, old.clone())).await.unwrap());
    let report = maintain(&world.lake, &id(), &MaintainOptions::full("test")).await.unwrap();
    assert_eq!(report.data_files_deleted, 0, "all is younger than the retention");

    // After six days a commit removes another file; after eight the first removal is old and the second is not.
    world.pass(6);
    let live = table.files();
    let add = table.write_files(vec![rows(9, 0..60)]).await.unwrap();
    committed(table.commit(request(&world.lake, add, live.clone())).await.unwrap());
    world.pass(2);
    let report = maintain(&world.lake, &id(), &MaintainOptions::full("test")).await.unwrap();
    assert_eq!(report.data_files_deleted, 7, "six replaced files and the orphan");
    let names = objects(&world, &table.store.folder()).await;
    let is_there = |file: &crate::DataFile| names.iter().any(|name| file.path.ends_with(name.as_str()));
    assert!(!is_there(&orphan[0]) && !old.iter().any(is_there));
    assert!(live.iter().all(is_there) && table.files().iter().all(is_there));
    assert_eq!(values(&table).await, (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn log_clean_up_keeps_the_retention_and_the_newest_note() {
    let world = memory();
    let mut table = appended(&world, 12).await;
    let mut quiet = request(&world.lake, Vec::new(), Vec::new());
    quiet.note.act = Act::Maintain;
    maintain(&world.lake, &id(), &MaintainOptions::full("test")).await.unwrap();
    table.refresh().await.unwrap();
    assert!(world.lake.open_at(&id(), TableVersion(3)).await.is_ok(), "younger than the retention");

    world.pass(8);
    for _ in 0..20 {
        let mut nothing = request(&world.lake, Vec::new(), Vec::new());
        nothing.note = note(&world.lake);
        nothing.note.act = Act::Maintain;
        committed(table.commit(nothing).await.unwrap());
        maybe_checkpoint(&table).await.unwrap();
    }
    world.pass(8);
    let report = maintain(&world.lake, &id(), &MaintainOptions::full("test")).await.unwrap();
    assert!(report.log_objects_deleted == 0, "version 12 has the newest note and the first checkpoint lies behind it");
    committed(append(&mut table, rows(10, 900..910)).await);
    for _ in 0..10 {
        committed(append(&mut table, rows(10, 910..911)).await);
        maybe_checkpoint(&table).await.unwrap();
    }
    let report = maintain(&world.lake, &id(), &MaintainOptions::full("test")).await.unwrap();
    assert!(report.log_objects_deleted > 10, "{report:?}");
    let again = world.lake.open(&id()).await.unwrap().unwrap();
    table.refresh().await.unwrap();
    assert_eq!((again.version(), again.files(), again.txns()), (table.version(), table.files(), table.txns()));
    assert!(again.last_note(|note| matches!(note.act, Act::Ingest(_))).await.unwrap().is_some());
    assert!(world.lake.open_at(&id(), TableVersion(3)).await.unwrap_err().is_version_gone());
}

#[tokio::test]
async fn delta_rs_reads_what_we_write() {
    let world = memory();
    let table = appended(&world, 10).await;
    maybe_checkpoint(&table).await.unwrap();
    maintain(&world.lake, &id(), &MaintainOptions::full("test")).await.unwrap();
    let mut delta = deltalake::DeltaTable::new(table.store.log_store());
    delta.load().await.unwrap();
    let ours = world.lake.open(&id()).await.unwrap().unwrap();
    assert_eq!(delta.version(), Some(ours.version().0));
    let mut theirs: Vec<_> = delta.snapshot().unwrap().log_data().iter().map(|view| view.path().into_owned()).collect();
    theirs.sort();
    assert_eq!(theirs, ours.files().into_iter().map(|file| file.path).collect::<Vec<_>>());
    let session = datafusion::prelude::SessionContext::new();
    session.register_table("t", Arc::clone(&delta.table_provider().await.unwrap())).unwrap();
    let sql = "select count(*) from t where event_date = date '2025-03-09' and value >= 50";
    let counted = session.sql(sql).await.unwrap().collect().await.unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&counted).unwrap().to_string();
    assert!(text.contains("| 50 "), "{text}");
}

#[tokio::test]
async fn delta_rs_reads_a_checkpoint_of_ours_alone() {
    let world = memory();
    let mut table = appended(&world, 9).await;
    let old = table.files();
    let mut add = table.write_files(vec![rows(10, 100..110)]).await.unwrap();
    add[0].tags.insert("origin".to_owned(), "test".to_owned());
    committed(table.commit(request(&world.lake, add, old[..3].to_vec())).await.unwrap());
    assert!(maybe_checkpoint(&table).await.unwrap());
    for version in 0..10 {
        table.store.delete(vec![table.store.log_path(version)]).await.unwrap();
    }
    let mut delta = deltalake::DeltaTable::new(table.store.log_store());
    delta.load().await.unwrap();
    let snapshot = delta.snapshot().unwrap();
    assert_eq!(snapshot.version(), 10);
    let mut theirs: Vec<_> = snapshot.log_data().iter().map(|view| (view.path().into_owned(), view.stats())).collect();
    theirs.sort();
    let ours: Vec<_> = table.state.files.values().map(|file| (file.path.to_string(), file.stats_text())).collect();
    assert_eq!(theirs.len(), ours.len());
    assert_eq!(
        theirs.iter().map(|(path, _)| path).collect::<Vec<_>>(),
        ours.iter().map(|(path, _)| path).collect::<Vec<_>>()
    );
    let log_store = delta.log_store();
    let progress = snapshot.transaction_version(log_store.as_ref(), "kafka/zoner.user_activity/t/0").await.unwrap();
    assert_eq!(progress, Some(90));
    let tombstones: Vec<_> = snapshot.all_tombstones(log_store.as_ref()).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(tombstones.len(), 3);
    // And delta-rs's own checkpoint is as good to us as ours.
    committed(append(&mut table, rows(11, 200..210)).await);
    delta.load().await.unwrap();
    deltalake::checkpoints::create_checkpoint(&delta, None).await.unwrap();
    table.store.delete(vec![table.store.log_path(11)]).await.unwrap();
    let again = world.lake.open(&id()).await.unwrap().unwrap();
    assert_eq!((again.files(), again.txns()), (table.files(), table.txns()));
}

#[tokio::test]
async fn a_commit_of_many_files_is_worth_a_checkpoint_of_its_own() {
    let world = memory();
    let mut table = appended(&world, 1).await;
    let one = table.files().remove(0);
    let many = (0..600).map(|number| DataFile { path: format!("many/{number}.parquet"), ..one.clone() }).collect();
    committed(table.commit(request(&world.lake, many, Vec::new())).await.unwrap());
    assert_eq!(table.version(), TableVersion(2));
    assert!(maybe_checkpoint(&table).await.unwrap());
    assert!(!maybe_checkpoint(&table).await.unwrap());
    // Who opens the table finds the checkpoint and makes none.
    let again = world.lake.open(&id()).await.unwrap().unwrap();
    assert_eq!(again.num_files(), 601);
    assert!(!maybe_checkpoint(&again).await.unwrap());
}

#[tokio::test]
async fn writers_that_commit_now_and_then_leave_checkpoints_and_few_files() {
    let world = memory();
    let mut table = appended(&world, 1).await;
    while table.version() < TableVersion(32) {
        let at = i64::try_from(table.version().0).unwrap() * 100;
        append(&mut table, rows(9, at..at + 10)).await;
        crate::maintain::after_commit(&table, "test").await;
    }
    assert_eq!(table.num_files(), 32);
    let again = world.lake.open(&id()).await.unwrap().unwrap();
    assert_eq!((again.version(), again.num_files()), (TableVersion(33), 1), "compacted at version 32");
    assert_eq!(values(&again).await, values(&table).await);
    let log = objects(&world, &table.store.log_folder()).await;
    let checkpoints = log.iter().filter(|name| name.ends_with(".checkpoint.parquet")).count();
    assert_eq!(checkpoints, 3, "{log:?}");
}

#[tokio::test]
async fn a_lake_that_remembers_opens_what_is_there_whoever_changed_it_meanwhile() {
    let world = memory();
    let remembering = world.neighbour().remembering();
    let mut table = appended(&world, 3).await;
    let agrees = async || {
        let fresh = world.lake.open(&id()).await.unwrap();
        let known = remembering.open(&id()).await.unwrap();
        let facts = |table: &Option<Table>| {
            table.as_ref().map(|table| {
                (table.version(), table.table_id().to_owned(), table.files(), table.txns().clone(), table.schema())
            })
        };
        assert_eq!(facts(&known), facts(&fresh));
        known
    };
    agrees().await;
    // Commits of others, a compaction, a checkpoint with the log behind it gone.
    append(&mut table, rows(10, 500..510)).await;
    agrees().await;
    maintain(&world.lake, &id(), &MaintainOptions::full("test")).await.unwrap();
    let mut known = agrees().await.unwrap();
    append(&mut known, rows(10, 600..610)).await;
    let table = agrees().await.unwrap();
    crate::maintain::checkpoint_for_test(&table).await.unwrap();
    for version in 0..=table.version().0 {
        table.store.delete(vec![table.store.log_path(version)]).await.unwrap();
    }
    agrees().await;
    // The table is dropped, and made again with fewer, as many, and more versions.
    for commits in [1, 4, 12] {
        world.lake.drop_table(&id()).await.unwrap();
        assert!(agrees().await.is_none());
        appended(&world, commits).await;
        agrees().await;
        world.lake.drop_table(&id()).await.unwrap();
        appended(&world, commits).await;
        agrees().await;
    }
}
