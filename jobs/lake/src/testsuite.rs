//! What every store must give, as one function per guarantee; each panics when the guarantee fails. Not part of the room's
//! face. It is compiled always: behind a feature, whoever asks for it would have every room above compiled a second time.
//!
//! `connect` makes a new client of one lake, which must be empty at first. Memory and a local folder are run in this room,
//! object stores where there is a server: `tidemill_lake::testsuite::all(|| connect_to_s3()).await`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use futures::TryStreamExt as _;
use futures::future::join_all;
use tidemill_project::config::TransformSettings;
use tidemill_project::{SourceName, TableVersion};

use crate::maintain::{MaintainOptions, maintain, maybe_checkpoint};
use crate::metadata::{Act, CommitNote, IngestNote};
use crate::{CommitOutcome, CommitRequest, Engine, Lake, PartitionedBatch, Table, TableId, TableSpec};

/// Runs all guarantees, one table each.
pub async fn all(connect: impl Fn() -> Lake) {
    rows_survive_opening_again(&connect()).await;
    each_version_has_one_winner(&connect).await;
    a_replaced_partition_is_replaced_as_a_whole(&connect()).await;
    care_changes_no_row(&connect).await;
    a_dropped_table_is_gone(&connect()).await;
}

/// What was committed is found by a new client: rows, files, progress, schema.
pub async fn rows_survive_opening_again(lake: &Lake) {
    let mut table = create(lake, "survive").await;
    append(&mut table, "2025-03-09T00:00 %#", &[1, 2, 3]).await;
    append(&mut table, "2025-03-10", &[4]).await;
    let again = open(lake, "survive").await;
    assert_eq!(again.version(), TableVersion(2));
    assert_eq!(again.files(), table.files());
    assert_eq!(again.txns(), table.txns());
    assert_eq!(again.schema(), table.schema());
    assert_eq!(values(&again).await, [1, 2, 3, 4]);
    assert!(lake.list().await.expect("the store lists").contains(table.id()));
}

/// Writers that commit at once never share a version, and what each was told is what the log says.
pub async fn each_version_has_one_winner(connect: &impl Fn() -> Lake) {
    const WRITERS: usize = 6;
    const COMMITS: i64 = 8;

    create(&connect(), "race").await;
    let writers = (0..WRITERS).map(|writer| {
        let lake = connect();
        async move {
            let mut table = open(&lake, "race").await;
            let mut won = Vec::new();
            for number in 0..COMMITS {
                let value = i64::try_from(writer).expect("few writers") * COMMITS + number;
                let files = table.write_files(vec![rows("2025-03-09", &[value])]).await.expect("files are written");
                loop {
                    let request = request(&table, files.clone(), Vec::new());
                    let id = request.note.commit_id;
                    match table.commit(request).await.expect("the store answers") {
                        CommitOutcome::Committed(version) => break won.push((version, id)),
                        CommitOutcome::Lost(winners) => assert!(!winners.is_empty(), "lost to nobody"),
                    }
                }
            }
            won
        }
    });
    let won: BTreeMap<_, _> = join_all(writers).await.into_iter().flatten().collect();
    let table = open(&connect(), "race").await;
    let expected = WRITERS * usize::try_from(COMMITS).expect("a small number");
    assert_eq!(won.len(), expected, "two were told that they won the same version");
    assert_eq!(table.version(), TableVersion(expected as u64));
    assert_eq!(values(&table).await.len(), expected);
    for commit in table.commits(Some(TableVersion(0)), table.version()).await.expect("the log is whole") {
        assert_eq!(commit.note.map(|note| note.commit_id), won.get(&commit.version).copied());
    }
}

/// Old rows go and new ones come in one version; the old version can still be read.
pub async fn a_replaced_partition_is_replaced_as_a_whole(lake: &Lake) {
    let mut table = create(lake, "replace").await;
    append(&mut table, "2025-03-09", &[1, 2]).await;
    append(&mut table, "2025-03-10", &[3]).await;
    let add = table.write_files(vec![rows("2025-03-09", &[7])]).await.expect("files are written");
    let remove = table.files_of(&rows("2025-03-09", &[]).partition_values);
    commit(&mut table, add, remove).await;
    assert_eq!(values(&open(lake, "replace").await).await, [3, 7]);
    let old = lake.open_at(table.id(), TableVersion(2)).await.expect("the version is there");
    assert_eq!(values(&old).await, [1, 2, 3]);
}

/// Compaction, checkpoints, clean-up and vacuum leave every row to every reader, SQL included.
pub async fn care_changes_no_row(connect: &impl Fn() -> Lake) {
    let (lake, other) = (connect(), connect());
    let mut table = create(&lake, "care").await;
    let mut expected = BTreeSet::new();
    for value in 0..40 {
        append(&mut table, "2025-03-09", &[value]).await;
        expected.insert(value);
        if value % 10 == 9 {
            maintain(&other, table.id(), &MaintainOptions::full("suite")).await.expect("care is taken");
            table.refresh().await.expect("the log is read");
        }
    }
    maybe_checkpoint(&table).await.expect("a checkpoint is made");
    let again = open(&connect(), "care").await;
    assert_eq!(values(&again).await, expected.iter().copied().collect::<Vec<_>>());
    assert_eq!(again.txn_version("suite"), Some(40));
    let session = Engine::local(&TransformSettings::default()).session();
    session.register_table("t", again.provider().expect("the table is ours")).expect("the name is free");
    let sql = "select count(*) from t where day = '2025-03-09' and value >= 10";
    let counted = session.sql(sql).await.expect("the text is SQL").collect().await.expect("the store answers");
    assert_eq!(counted[0].column(0).as_primitive::<Int64Type>().value(0), 30);
}

/// Nothing of a dropped table is found, and its name is free.
pub async fn a_dropped_table_is_gone(lake: &Lake) {
    let mut table = create(lake, "drop").await;
    append(&mut table, "2025-03-09", &[1]).await;
    lake.drop_table(table.id()).await.expect("the table is dropped");
    assert!(lake.open(table.id()).await.expect("the store answers").is_none());
    assert!(!lake.list().await.expect("the store lists").contains(table.id()));
    assert_ne!(create(lake, "drop").await.table_id(), table.table_id());
}

fn id(name: &str) -> TableId {
    TableId::Raw(SourceName::new("suite", name))
}

async fn create(lake: &Lake, name: &str) -> Table {
    let schema = Schema::new(vec![
        Field::new("value", DataType::Int64, true),
        Field::new("_key", DataType::Utf8, true),
        Field::new("day", DataType::Utf8, true),
    ]);
    let spec = TableSpec {
        id: id(name),
        schema: Arc::new(schema),
        partition_columns: vec!["day".to_owned()],
        bloom_columns: vec!["_key".to_owned()],
        description: String::new(),
    };
    lake.open_or_create(&spec, "suite").await.expect("the table is created")
}

async fn open(lake: &Lake, name: &str) -> Table {
    lake.open(&id(name)).await.expect("the store answers").expect("the table is there")
}

fn rows(day: &str, values: &[i64]) -> PartitionedBatch {
    let keys = StringArray::from_iter_values(values.iter().map(|value| format!("k{value}")));
    let batch = RecordBatch::try_from_iter([
        ("value", Arc::new(Int64Array::from(values.to_vec())) as Arc<dyn arrow::array::Array>),
        ("_key", Arc::new(keys)),
    ]);
    PartitionedBatch {
        partition_values: BTreeMap::from([("day".to_owned(), Some(day.to_owned()))]),
        batches: vec![batch.expect("columns of one length")],
        tags: BTreeMap::new(),
    }
}

fn request(table: &Table, add: Vec<crate::DataFile>, remove: Vec<crate::DataFile>) -> CommitRequest {
    let act = Act::Ingest(IngestNote::default());
    let note = CommitNote { commit_id: table.lake().clock().new_id(), run_id: "suite".to_owned(), act };
    let next = table.txn_version("suite").unwrap_or(0) + 1;
    let txns = BTreeMap::from([("suite".to_owned(), next)]);
    CommitRequest { add, remove, txns, operation: "WRITE", data_change: true, note }
}

async fn commit(table: &mut Table, add: Vec<crate::DataFile>, remove: Vec<crate::DataFile>) {
    let request = request(table, add, remove);
    let outcome = table.commit(request).await.expect("the store answers");
    assert!(matches!(outcome, CommitOutcome::Committed(_)), "lost without a rival");
}

async fn append(table: &mut Table, day: &str, values: &[i64]) {
    let add = table.write_files(vec![rows(day, values)]).await.expect("files are written");
    commit(table, add, Vec::new()).await;
}

async fn values(table: &Table) -> Vec<i64> {
    let stream = table.read_files(table.files(), Some(vec!["value".to_owned()]));
    let batches: Vec<RecordBatch> = stream.try_collect().await.expect("files are read");
    let columns = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
    let mut values: Vec<i64> = columns.collect();
    values.sort_unstable();
    values
}
