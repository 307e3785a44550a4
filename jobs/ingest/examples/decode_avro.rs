//! How many user actions a second one core decodes from Avro, beside the same records as JSON.
//!
//! ```console
//! $ cargo run --release -p tidemill-ingest --example decode_avro
//! ```
//!
//! The rows are the same; what the ratio shows is the encoding's price alone. Records are written by arrow-avro.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

mod measure;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, MapBuilder, RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray};
use arrow::datatypes::{Field, Schema};
use arrow_avro::schema::{AvroSchema, FingerprintStrategy};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use tidemill_ingest::decode::{RegisteredSchema, SchemaKind};
use tidemill_project::SourceName;
use tidemill_project::contract::{
    ColumnType, Contract, ContractColumn, Format, KeyRule, PartitionBy, TimeUnit, TopicRule,
};

use self::measure::{ROUNDS, best, decode, report};

const NUM_EVENTS: usize = 200_000;
const START_MS: i64 = 1_741_478_400_000;
const TEXTS: [&str; 7] = ["event_id", "user_id", "action", "session_id", "page", "experiment_id", "variant"];

fn main() {
    let batch = events();
    let (schema, avro) = to_avro(&batch);
    let json = to_json(&batch);
    let mean = |values: &[Vec<u8>]| values.iter().map(Vec::len).sum::<usize>() / values.len();
    println!("{NUM_EVENTS} user actions of {} bytes as JSON, {} as Avro, best of {ROUNDS}", mean(&json), mean(&avro));
    let by_json = best(NUM_EVENTS, || decode(&user_actions(Format::Json), None, &json, Some(START_MS * 1000)));
    let by_avro = best(NUM_EVENTS, || decode(&user_actions(Format::Avro), Some(&schema), &avro, Some(START_MS * 1000)));
    report("JSON", NUM_EVENTS, by_json);
    report("Avro", NUM_EVENTS, by_avro);
    println!("ratio       {:.2}", by_json.as_secs_f64() / by_avro.as_secs_f64());
}

/// Actions of an hour; ids differ, so that no branch or cache gets used to them.
fn events() -> RecordBatch {
    let mixed = |index: usize| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xffff_ffff_ffff;
    let texts = |text: &dyn Fn(usize) -> Option<String>| -> ArrayRef {
        Arc::new((0..NUM_EVENTS).map(text).collect::<StringArray>())
    };
    let mut properties = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for index in 0..NUM_EVENTS {
        for name in ["referrer", "width"].into_iter().take(index % 3) {
            properties.keys().append_value(name);
            properties.values().append_value(format!("{}", index % 1_000));
        }
        properties.append(true).expect("names and values of one length");
    }
    let times = (0..NUM_EVENTS).map(|index| Some(START_MS - i64::try_from(index % 3_600_000).unwrap_or(0)));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("event_id", texts(&|index| Some(format!("5c1d8f00-2222-4000-8000-{:012x}", mixed(index))))),
        ("user_id", texts(&|index| Some(format!("u{}", mixed(index) % 100_000)))),
        ("action", texts(&|index| Some(["click", "view", "search"][index % 3].to_owned()))),
        ("occurred_at", Arc::new(times.collect::<TimestampMillisecondArray>().with_timezone("+00:00"))),
        ("session_id", texts(&|index| Some(format!("s{}", mixed(index) % 1_000_000)))),
        ("page", texts(&|index| (index % 4 > 0).then(|| format!("/p/{}", index % 500)))),
        ("properties", Arc::new(properties.finish())),
        ("experiment_id", texts(&|index| (index % 5 == 0).then(|| "e1".to_owned()))),
        ("variant", texts(&|index| (index % 5 == 0).then(|| ["on", "off"][index % 2].to_owned()))),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), *name != "occurred_at"))
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns of one length")
}

fn to_avro(batch: &RecordBatch) -> (RegisteredSchema, Vec<Vec<u8>>) {
    let schema = AvroSchema::try_from(batch.schema().as_ref()).expect("types that Avro has");
    let mut encoder = WriterBuilder::new(batch.schema().as_ref().clone())
        .with_fingerprint_strategy(FingerprintStrategy::Id(1))
        .build_encoder::<AvroSoeFormat>()
        .expect("an encoder");
    encoder.encode(batch).expect("records");
    let values = encoder.flush().iter().map(|value| value.to_vec()).collect();
    (RegisteredSchema { kind: SchemaKind::Avro, text: schema.json_string, references: Vec::new() }, values)
}

fn to_json(batch: &RecordBatch) -> Vec<Vec<u8>> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(batch).expect("records");
    writer.finish().expect("records");
    writer.into_inner().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

fn user_actions(format: Format) -> Contract {
    let mut columns: Vec<ContractColumn> = TEXTS.map(|name| ContractColumn::plain(name, ColumnType::Text)).into();
    columns.push(ContractColumn {
        required: true,
        time_unit: Some(TimeUnit::Millisecond),
        ..ContractColumn::plain("occurred_at", ColumnType::Timestamp)
    });
    columns.push(ContractColumn::plain("properties", ColumnType::Json));
    Contract {
        topics: vec![TopicRule { pattern: "events.user-actions".to_owned(), defaults: Vec::new() }],
        format,
        key: vec![KeyRule::Field("event_id".to_owned())],
        partition_by: PartitionBy::Hour,
        grace: Duration::from_mins(5),
        ..Contract::plain(SourceName::new("clicks", "user_actions"), "occurred_at", columns)
    }
}
