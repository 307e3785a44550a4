//! How many login events a second one core decodes, beside arrow-json on the same bytes.
//!
//! ```console
//! $ cargo run --release -p tidemill-ingest --example decode_throughput
//! ```
//!
//! arrow-json only parses: no defaults, no checks, no key, no event time. So it is a limit, not a rival; what the decoder
//! does beside parsing is what the ratio shows.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::ReaderBuilder;
use tidemill_ingest::decode::{Decoder, NoHeaders, Record};
use tidemill_project::clock::Clock;
use tidemill_project::contract::{
    ColumnType, Contract, ContractColumn, EventTime, Format, KeyRule, OnExtra, PartitionBy, TextFormat, TimeUnit,
    TopicRule,
};
use tidemill_project::{Location, SourceName};

const NUM_EVENTS: usize = 500_000;
const BATCH: usize = 20_000;
const ROUNDS: usize = 5;
const START_S: usize = 1_730_570_189;

fn main() {
    let events: Vec<Vec<u8>> = (0..NUM_EVENTS).map(event).collect();
    let num_bytes: usize = events.iter().map(Vec::len).sum();
    println!("{NUM_EVENTS} login events of {} bytes, batches of {BATCH}, best of {ROUNDS}", num_bytes / NUM_EVENTS);

    let ours = best(|| decode(&events));
    report("decoder", ours);
    let lines = events.join(&b'\n');
    let theirs = best(|| read_with_arrow_json(&lines));
    report("arrow-json", theirs);
    println!("ratio       {:.2}", theirs.as_secs_f64() / ours.as_secs_f64());
}

fn decode(events: &[Vec<u8>]) -> usize {
    let mut decoder = Decoder::new(&logins()).expect("a contract that compiles");
    let mut num_rows = 0;
    for batch in events.chunks(BATCH) {
        decoder.begin(batch.len());
        for (offset, payload) in batch.iter().enumerate() {
            decoder.push(&Record {
                payload: Some(payload),
                headers: &NoHeaders,
                topic: Some("user-login"),
                topic_rule: Some(0),
                partition: Some(0),
                offset: i64::try_from(offset).ok(),
                timestamp_us: i64::try_from(START_S * 1_000_000).ok(),
                clock_us: 0,
            });
        }
        let decoded = decoder.finish().expect("columns of one length");
        assert!(decoded.rejections.is_empty(), "{:?}", decoded.rejections.first());
        num_rows += decoded.batch.num_rows();
    }
    num_rows
}

fn read_with_arrow_json(lines: &[u8]) -> usize {
    let fields: Vec<Field> =
        logins().columns.iter().map(|column| Field::new(&column.name, DataType::Utf8, true)).collect();
    let reader =
        ReaderBuilder::new(Arc::new(Schema::new(fields))).with_batch_size(BATCH).build(lines).expect("a reader");
    reader.map(|batch| batch.as_ref().map(RecordBatch::num_rows).expect("a batch")).sum()
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

/// A login like the simulator's; ids differ, so that no branch or cache gets used to them.
fn event(index: usize) -> Vec<u8> {
    let mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xffff_ffff_ffff;
    let device = ["android", "iOS"][index % 5 / 3];
    let state = ["MI", "CA", "NY", "TX", "RU", "FR"][index % 6];
    let timestamp = START_S - index % 100_000;
    format!(
        r#"{{"user_id": "9f0c2a7e-1111-4000-8000-{mixed:012x}", "app_version": "2.4.{}", "device_type": "{device}", "ip": "203.0.{}.{}", "locale": "{state}", "device_id": "5c1d8f00-2222-4000-8000-{:012x}", "timestamp": "{timestamp}"}}"#,
        index % 10,
        index % 199,
        index % 251,
        mixed ^ 0x5555,
    )
    .into_bytes()
}

fn logins() -> Contract {
    let texts = ["user_id", "app_version", "device_type", "ip", "locale", "device_id"];
    let mut columns: Vec<ContractColumn> = texts.map(|name| column(name, ColumnType::Text)).into();
    columns.push(ContractColumn {
        required: true,
        accept_text: true,
        time_unit: Some(TimeUnit::Second),
        on_missing: None,
        ..column("timestamp", ColumnType::BigInt)
    });
    Contract {
        name: SourceName::new("logins", "user_login"),
        system: "logins".to_owned(),
        location: Location::new(PathBuf::from("_logins__sources.yml"), 1, 1),
        description: String::new(),
        topics: vec![TopicRule { pattern: "user-login".to_owned(), defaults: Vec::new() }],
        format: Format::Json,
        schema: None,
        event_time: EventTime { column: "timestamp".to_owned() },
        key: vec![KeyRule::Hash(columns.iter().map(|column| column.name.clone()).collect())],
        partition_by: PartitionBy::Hour,
        on_extra: OnExtra::Keep,
        grace: Duration::from_secs(10),
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
        data_type,
        required: false,
        paths_when: None,
        required_when: None,
        required_without: None,
        on_missing: Some("unknown".to_owned()),
        empty_is_missing: true,
        accept_text: false,
        aliases: Vec::new(),
        accepted_values: Vec::new(),
        min: None,
        max: None,
        max_bytes: Some(256),
        text_format: (name == "ip").then_some(TextFormat::Ip),
        time_unit: None,
        time_zone: None,
        pii: false,
    }
}
