//! How many user actions a second one core decodes from Avro, beside the same records as JSON.
//!
//! ```console
//! $ cargo run --release -p tidemill-ingest --example decode_avro
//! ```
//!
//! The rows are the same; what the ratio shows is the encoding's price alone. Records are written by arrow-avro.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, MapBuilder, RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray};
use arrow::datatypes::{Field, Schema};
use arrow_avro::schema::{AvroSchema, FingerprintStrategy};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use tidemill_ingest::decode::{Decoder, NoHeaders, Record, RegisteredSchema, SchemaId, SchemaKind};
use tidemill_project::clock::Clock;
use tidemill_project::contract::{
    ColumnType, Contract, ContractColumn, EventTime, Format, KeyRule, OnExtra, PartitionBy, TimeUnit, TopicRule,
};
use tidemill_project::{Location, SourceName};

const NUM_EVENTS: usize = 200_000;
const BATCH: usize = 20_000;
const ROUNDS: usize = 5;
const START_MS: i64 = 1_741_478_400_000;
const TEXTS: [&str; 7] = ["event_id", "user_id", "action", "session_id", "page", "experiment_id", "variant"];

fn main() {
    let batch = events();
    let (schema, avro) = to_avro(&batch);
    let json = to_json(&batch);
    let mean = |values: &[Vec<u8>]| values.iter().map(Vec::len).sum::<usize>() / values.len();
    println!("{NUM_EVENTS} user actions of {} bytes as JSON, {} as Avro, best of {ROUNDS}", mean(&json), mean(&avro));
    let by_json = best(|| decode(&user_actions(Format::Json), None, &json));
    let by_avro = best(|| decode(&user_actions(Format::Avro), Some(&schema), &avro));
    report("JSON", by_json);
    report("Avro", by_avro);
    println!("ratio       {:.2}", by_json.as_secs_f64() / by_avro.as_secs_f64());
}

fn decode(contract: &Contract, schema: Option<&RegisteredSchema>, values: &[Vec<u8>]) -> usize {
    let mut decoder = Decoder::new(contract).expect("a contract that compiles");
    decoder.learn(SchemaId(1), schema);
    let mut num_rows = 0;
    for batch in values.chunks(BATCH) {
        decoder.begin(batch.len());
        for (offset, value) in batch.iter().enumerate() {
            decoder.push(&Record {
                payload: Some(value),
                headers: &NoHeaders,
                topic: Some("events.user-actions"),
                topic_rule: Some(0),
                partition: Some(0),
                offset: i64::try_from(offset).ok(),
                timestamp_us: Some(START_MS * 1000),
                clock_us: 0,
            });
        }
        let decoded = decoder.finish().expect("columns of one length");
        assert!(decoded.rejections.is_empty(), "{:?}", decoded.rejections.first());
        num_rows += decoded.batch.num_rows();
    }
    num_rows
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

fn best(run: impl Fn() -> usize) -> Duration {
    let clock = Clock::system();
    let times = (0..ROUNDS).map(|_| {
        let watch = clock.stopwatch();
        assert_eq!(run(), NUM_EVENTS);
        watch.elapsed()
    });
    times.min().expect("at least one round")
}

fn report(name: &str, time: Duration) {
    let per_event = time / u32::try_from(NUM_EVENTS).expect("fewer than 2^32 events");
    println!("{name:<11} {per_event:>7.1?} an event, {:.2} M events/s", 1e3 / per_event.as_secs_f64() / 1e9);
}

fn user_actions(format: Format) -> Contract {
    let mut columns: Vec<ContractColumn> = TEXTS.map(|name| column(name, ColumnType::Text)).into();
    columns.push(ContractColumn {
        required: true,
        time_unit: Some(TimeUnit::Millisecond),
        ..column("occurred_at", ColumnType::Timestamp)
    });
    columns.push(column("properties", ColumnType::Json));
    Contract {
        name: SourceName::new("clicks", "user_actions"),
        system: "clicks".to_owned(),
        location: Location::new(PathBuf::from("_clicks__sources.yml"), 1, 1),
        description: String::new(),
        topics: vec![TopicRule { pattern: "events.user-actions".to_owned(), defaults: Vec::new() }],
        format,
        schema: None,
        event_time: EventTime { column: "occurred_at".to_owned() },
        key: vec![KeyRule::Field("event_id".to_owned())],
        partition_by: PartitionBy::Hour,
        on_extra: OnExtra::Keep,
        grace: Duration::from_mins(5),
        max_record_bytes: 1 << 20,
        min_event_time_us: 946_684_800_000_000,
        max_future: Duration::from_hours(24),
        columns,
        enabled: true,
    }
}

fn column(name: &str, data_type: ColumnType) -> ContractColumn {
    ContractColumn {
        name: name.to_owned(),
        description: String::new(),
        paths: vec![vec![name.to_owned()]],
        paths_when: None,
        data_type,
        required: false,
        required_when: None,
        required_without: None,
        on_missing: None,
        empty_is_missing: false,
        accept_text: false,
        aliases: Vec::new(),
        accepted_values: Vec::new(),
        min: None,
        max: None,
        max_bytes: None,
        text_format: None,
        time_unit: None,
        time_zone: None,
        pii: false,
    }
}
