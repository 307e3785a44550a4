//! Tables under DataFusion: pruning, projection, evolution, exactness.

use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::SessionContext;
use tidemill_project::config::TransformSettings;

use super::{append, committed, memory, note, partition, rows, spec};
use crate::{Engine, Table};

fn session(table: &Table) -> SessionContext {
    let session = Engine::local(&TransformSettings::default()).session();
    session.register_table("activity", table.provider().unwrap()).unwrap();
    session
}

async fn count(session: &SessionContext, sql: &str) -> i64 {
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 1, "{sql}");
    let batch = batches.iter().find(|batch| batch.num_rows() == 1).unwrap();
    batch.column(0).as_primitive::<Int64Type>().value(0)
}

async fn plan(session: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    session.sql(sql).await.unwrap().create_physical_plan().await.unwrap()
}

/// The number of files that a plan would open.
async fn files_opened(session: &SessionContext, sql: &str) -> usize {
    let plan = plan(session, sql).await;
    displayable(plan.as_ref()).indent(true).to_string().matches(".zstd.parquet").count()
}

async fn three_days() -> Table {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    committed(append(&mut table, rows(9, 0..100)).await);
    committed(append(&mut table, rows(10, 100..200)).await);
    committed(append(&mut table, rows(10, 200..300)).await);
    committed(append(&mut table, rows(11, 300..400)).await);
    table
}

#[tokio::test]
async fn files_are_pruned_by_partition_and_by_bounds() {
    let session = session(&three_days().await);
    let cases = [
        ("select value from activity", 4, 400),
        ("select value from activity where event_date = date '2025-03-10'", 2, 200),
        ("select value from activity where event_date >= '2025-03-10' and event_date < '2025-03-11'", 2, 200),
        ("select value from activity where value = 250", 1, 1),
        ("select value from activity where value between 150 and 250", 2, 101),
        ("select value from activity where event_date = date '2025-03-10' and value < 200", 1, 100),
        ("select value from activity where event_at >= timestamp '2025-03-11 00:00:00Z'", 1, 100),
        ("select value from activity where _key = 'k99'", 1, 1),
        (
            "select value from activity where event_date in (date '2025-03-09', date '2025-03-11') and value > 350",
            1,
            49,
        ),
    ];
    for (sql, files, rows) in cases {
        assert_eq!(files_opened(&session, sql).await, files, "{sql}");
        assert_eq!(count(&session, &format!("select count(*) from ({sql})")).await, rows, "{sql}");
    }
    assert_eq!(files_opened(&session, "select * from activity where event_date = date '2024-01-01'").await, 0);
    assert_eq!(count(&session, "select count(*) from activity where event_date is null").await, 0);
}

#[tokio::test]
async fn counting_whole_partitions_reads_no_file() {
    let session = session(&three_days().await);
    assert_eq!(files_opened(&session, "select count(*) from activity where event_date = date '2025-03-10'").await, 0);
    assert_eq!(count(&session, "select count(*) from activity where event_date = date '2025-03-10'").await, 200);
    assert_eq!(count(&session, "select count(*) from activity where value < 150").await, 150);
}

#[tokio::test]
async fn columns_come_in_the_tables_order_with_its_types() {
    let table = three_days().await;
    let session = session(&table);
    let batches = session.sql("select * from activity order by value limit 1").await.unwrap().collect().await.unwrap();
    assert_eq!(batches[0].schema().fields(), table.schema().fields());
    let sql = "select event_date, value from activity where value = 300";
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    assert_eq!(batches[0].schema().field(0).data_type(), &DataType::Date32);
}

#[tokio::test]
async fn a_provider_over_some_files_sees_only_them() {
    let table = three_days().await;
    let session = session(&table);
    session.register_table("news", table.provider_over(table.files_of(&partition(10))).unwrap()).unwrap();
    assert_eq!(count(&session, "select count(*) from news").await, 200);
    assert_eq!(count(&session, "select sum(value) from news where value >= 290").await, (290..300).sum::<i64>());
    session.register_table("nothing", table.provider_over(Vec::new()).unwrap()).unwrap();
    assert_eq!(count(&session, "select count(*) from nothing").await, 0);
}

#[tokio::test]
async fn a_query_sees_the_version_of_its_provider() {
    let mut table = three_days().await;
    let session = session(&table);
    committed(append(&mut table, rows(12, 400..500)).await);
    assert_eq!(count(&session, "select count(*) from activity").await, 400);
}

#[tokio::test]
async fn a_younger_column_is_null_in_older_files() {
    let mut table = three_days().await;
    let lake = table.lake().clone();
    committed(table.add_columns(vec![Field::new("extra", DataType::Utf8, true)], note(&lake)).await.unwrap());
    let session = session(&table);
    assert_eq!(count(&session, "select count(*) from activity where extra is null").await, 400);
    assert_eq!(count(&session, "select count(*) from activity where extra = 'x'").await, 0);
    // Partition columns stand before the new one in the table and behind it in a scan.
    assert_eq!(
        count(&session, "select count(*) from (select extra, event_date from activity where value > 0)").await,
        399
    );
}

#[tokio::test]
async fn time_is_utc_and_text_is_plain() {
    let session = session(&three_days().await);
    let sql = "select cast(min(event_at) as varchar) as first_at from activity";
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    assert_eq!(batches[0].column(0).data_type(), &DataType::Utf8);
    assert_eq!(batches[0].column(0).as_string::<i32>().value(0), "2025-03-09T00:00:00Z");
}

#[tokio::test]
async fn two_lakes_with_tables_of_one_name_do_not_mix() {
    let (left, right) = (three_days().await, three_days().await);
    let mut right = right;
    committed(append(&mut right, rows(12, 400..500)).await);
    let session = session(&left);
    session.register_table("other", right.provider().unwrap()).unwrap();
    let sql = "select count(*) from other where not exists (select 1 from activity where activity.value = other.value)";
    assert_eq!(count(&session, sql).await, 100);
}

#[tokio::test]
async fn a_table_with_features_we_do_not_know_is_read_through_delta_rs() {
    let mut ours = three_days().await;
    let theirs = concat!(
        r#"{"commitInfo":{"timestamp":1741478400000,"operation":"UPGRADE PROTOCOL"}}"#,
        "\n",
        r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"#,
        r#""writerFeatures":["deletionVectors"]}}"#,
    );
    let next = ours.store.log_path(5);
    object_store::ObjectStoreExt::put(ours.store.object_store(), &next, theirs.into()).await.unwrap();
    let mut table = ours.lake().open(ours.id()).await.unwrap().unwrap();
    assert_eq!((table.version().0, table.num_files()), (5, 4));
    assert_eq!(table.schema(), ours.schema());
    let session = session(&table);
    assert_eq!(count(&session, "select count(*) from activity where event_date = date '2025-03-10'").await, 200);
    assert_eq!(count(&session, "select max(value) from activity").await, 399);
    assert!(table.provider_over(table.files()).is_err());
    assert!(table.write_files(vec![rows(9, [1])]).await.is_err());
    let lake = ours.lake().clone();
    assert!(table.add_columns(vec![Field::new("extra", DataType::Utf8, true)], note(&lake)).await.is_err());
    assert_eq!(ours.refresh().await.unwrap().len(), 1);
}
