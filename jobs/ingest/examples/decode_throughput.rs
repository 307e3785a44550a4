//! How many login events a second one core decodes, beside arrow-json on the same bytes.
//!
//! ```console
//! $ cargo run --release -p tidemill-ingest --example decode_throughput
//! ```
//!
//! arrow-json only parses: no defaults, no checks, no key, no event time. So it is a limit, not a rival; what the decoder
//! does beside parsing is what the ratio shows.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

mod measure;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::ReaderBuilder;
use tidemill_project::SourceName;
use tidemill_project::contract::{
    ColumnType, Contract, ContractColumn, KeyRule, PartitionBy, TextFormat, TimeUnit, TopicRule,
};

use self::measure::{BATCH, ROUNDS, best, decode, report};

const NUM_EVENTS: usize = 500_000;
const START_S: usize = 1_730_570_189;

fn main() {
    let events: Vec<Vec<u8>> = (0..NUM_EVENTS).map(event).collect();
    let num_bytes: usize = events.iter().map(Vec::len).sum();
    println!("{NUM_EVENTS} login events of {} bytes, batches of {BATCH}, best of {ROUNDS}", num_bytes / NUM_EVENTS);

    let ours = best(NUM_EVENTS, || decode(&logins(), None, &events, i64::try_from(START_S * 1_000_000).ok()));
    report("decoder", NUM_EVENTS, ours);
    let lines = events.join(&b'\n');
    let theirs = best(NUM_EVENTS, || read_with_arrow_json(&lines));
    report("arrow-json", NUM_EVENTS, theirs);
    println!("ratio       {:.2}", theirs.as_secs_f64() / ours.as_secs_f64());
}

fn read_with_arrow_json(lines: &[u8]) -> usize {
    let fields: Vec<Field> =
        logins().columns.iter().map(|column| Field::new(&column.name, DataType::Utf8, true)).collect();
    let reader =
        ReaderBuilder::new(Arc::new(Schema::new(fields))).with_batch_size(BATCH).build(lines).expect("a reader");
    reader.map(|batch| batch.as_ref().map(RecordBatch::num_rows).expect("a batch")).sum()
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
        topics: vec![TopicRule { pattern: "user-login".to_owned(), defaults: Vec::new() }],
        key: vec![KeyRule::Hash(columns.iter().map(|column| column.name.clone()).collect())],
        partition_by: PartitionBy::Hour,
        grace: Duration::from_secs(10),
        ..Contract::plain(SourceName::new("logins", "user_login"), "timestamp", columns)
    }
}

fn column(name: &str, data_type: ColumnType) -> ContractColumn {
    ContractColumn {
        on_missing: Some("unknown".to_owned()),
        empty_is_missing: true,
        max_bytes: Some(256),
        text_format: (name == "ip").then_some(TextFormat::Ip),
        ..ContractColumn::plain(name, data_type)
    }
}
