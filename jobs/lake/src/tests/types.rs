//! Every type of a contract, through files, log, reader and SQL; tables without partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray as _, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema};
use futures::TryStreamExt as _;
use tidemill_project::config::TransformSettings;

use super::{committed, folder, id, memory, request};
use crate::{Engine, PartitionedBatch, TableSpec};

/// Two rows of every type, the second null throughout.
fn every_type() -> RecordBatch {
    let tags = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
    let place = Fields::from(vec![Field::new("city", DataType::Utf8, true), Field::new("zip", DataType::Int32, true)]);
    let city: ArrayRef = Arc::new(StringArray::from(vec![Some("Oslo"), None]));
    let zip: ArrayRef = Arc::new(Int32Array::from(vec![Some(150), None]));
    let place = StructArray::new(place, vec![city, zip], Some(vec![true, false].into()));
    let price = Decimal128Array::from(vec![Some(12_345), None]).with_precision_and_scale(18, 2).unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("text", Arc::new(StringArray::from(vec![Some("x".repeat(50)), None]))),
        ("whole", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
        ("small", Arc::new(Int32Array::from(vec![Some(-7), None]))),
        ("real", Arc::new(Float64Array::from(vec![Some(f64::NAN), None]))),
        ("price", Arc::new(price)),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(-1), None]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC"))),
        ("tags", Arc::new(tags)),
        ("place", Arc::new(place)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn whole_table(schema: &Schema) -> TableSpec {
    TableSpec {
        id: id(),
        schema: Arc::new(schema.clone()),
        partition_columns: Vec::new(),
        bloom_columns: Vec::new(),
        description: String::new(),
    }
}

fn unpartitioned(batches: Vec<RecordBatch>) -> PartitionedBatch {
    PartitionedBatch { partition_values: BTreeMap::new(), batches, tags: BTreeMap::new() }
}

#[tokio::test]
async fn every_type_survives_files_and_sql() {
    let (lake, _dir) = folder();
    let batch = every_type();
    let spec = whole_table(&batch.schema());
    let mut table = lake.open_or_create(&spec, "test").await.unwrap();
    let add = table.write_files(vec![unpartitioned(vec![batch.clone()])]).await.unwrap();
    assert!(!add[0].path.contains('/'), "{}", add[0].path);
    committed(table.commit(request(&lake, add, Vec::new())).await.unwrap());

    // The schema of the log is the schema that was declared: opening with it again finds no difference.
    let table = lake.open_or_create(&spec, "test").await.unwrap();
    let read: Vec<RecordBatch> = table.read_files(table.files(), None).try_collect().await.unwrap();
    assert_eq!(read[0].num_columns(), batch.num_columns());
    for (index, field) in batch.schema().fields().iter().enumerate() {
        assert_eq!(format!("{:?}", read[0].column(index)), format!("{:?}", batch.column(index)), "{}", field.name());
    }
    let session = Engine::local(&TransformSettings::default()).session();
    session.register_table("t", table.provider().unwrap()).unwrap();
    let sql = "select count(*) from t where text = repeat('x', 50) and whole = 9223372036854775807 and small = -7 \
        and price = 123.45 and flag and day = date '1969-12-31' and at < timestamp '1970-01-01 00:00:00Z' \
        and array_length(tags) = 2 and place['city'] = 'Oslo' and real > 5";
    let counted = session.sql(sql).await.unwrap().collect().await.unwrap();
    assert_eq!(counted[0].column(0).as_primitive::<Int64Type>().value(0), 1);
    let sql = "select count(*) from t where text is null and tags is null and place is null and price is null";
    let counted = session.sql(sql).await.unwrap().collect().await.unwrap();
    assert_eq!(counted[0].column(0).as_primitive::<Int64Type>().value(0), 1);
}

#[tokio::test]
async fn bounds_are_never_too_narrow() {
    let world = memory();
    let batch = every_type();
    let table = world.lake.open_or_create(&whole_table(&batch.schema()), "test").await.unwrap();
    let files = table.write_files(vec![unpartitioned(vec![batch])]).await.unwrap();
    let stats = &files[0].stats;
    assert_eq!(stats["text"].min, Some("x".repeat(32).into()));
    assert_eq!(stats["text"].max, Some(format!("{}y", "x".repeat(31)).into()));
    assert_eq!(stats["whole"].max, Some(i64::MAX.into()));
    assert_eq!((stats["real"].min.clone(), stats["real"].max.clone()), (None, None), "NaN has no place in JSON");
    assert_eq!((stats["price"].min.clone(), stats["price"].null_count), (None, Some(1)));
    assert_eq!(stats["day"].max, Some("1969-12-31".into()));
    assert_eq!(stats["at"].min, Some("1969-12-31T23:59:59.999999Z".into()));
    assert!(!stats.contains_key("tags") && !stats.contains_key("place"));
}

#[tokio::test]
async fn columns_that_do_not_fit_are_refused() {
    let world = memory();
    let batch = every_type();
    let table = world.lake.open_or_create(&whole_table(&batch.schema()), "test").await.unwrap();
    let strange = RecordBatch::try_from_iter([("stranger", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    assert!(table.write_files(vec![unpartitioned(vec![strange])]).await.is_err());
    let words =
        RecordBatch::try_from_iter([("whole", Arc::new(StringArray::from(vec!["seven"])) as ArrayRef)]).unwrap();
    assert!(table.write_files(vec![unpartitioned(vec![words])]).await.is_err());
}
