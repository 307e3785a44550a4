//! Any record lands with the same row, or is refused for the same reason, whether it was sent as Avro or as JSON.
//!
//! The Avro is written by arrow-avro's encoder, which shares no line with the decoder here.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, MapBuilder, RecordBatch,
    StringArray, StringBuilder, TimestampMillisecondArray,
};
use arrow::datatypes::{Field, Schema};
use arrow_avro::schema::{AvroSchema, FingerprintStrategy};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidemill_project::contract::{ColumnType, Contract, ContractColumn, Format, KeyRule, TimeUnit};

use super::super::{RegisteredSchema, SchemaId, SchemaKind};
use crate::decode::tests::support::{column, contract, record, rows};
use crate::decode::{Decoded, Decoder};

#[derive(Clone, Debug)]
struct Event {
    text: Option<String>,
    count: Option<i64>,
    ratio: Option<f64>,
    amount: Option<i128>,
    is_good: Option<bool>,
    day: Option<i32>,
    at_ms: i64,
    tags: Vec<(String, String)>,
    unknown: Option<String>,
}

fn any_event() -> impl Strategy<Value = Event> {
    let text = || prop::option::of("[a-z]{0,8}|\\PC{0,6}|[\u{0}-\u{7f}]{0,6}");
    // Partly outside the plausible years, so that refusals are compared as well.
    let at_ms = prop_oneof![1_741_000_000_000..1_741_478_000_000_i64, -62_135_596_800_000..253_402_300_799_999_i64];
    let amount = -999_999_999_999_999_999..=999_999_999_999_999_999_i128;
    let tags = prop::collection::btree_map("[a-z]{1,3}|\\PC{1,2}", "\\PC{0,4}", 0..3);
    (
        (text(), prop::option::of(any::<i64>()), prop::option::of(any::<f64>()), prop::option::of(amount)),
        (prop::option::of(any::<bool>()), prop::option::of(-100_000..100_000_i32), at_ms, tags, text()),
    )
        .prop_map(|((text, count, ratio, amount), (is_good, day, at_ms, tags, unknown))| Event {
            text,
            count,
            ratio,
            amount,
            is_good,
            day,
            at_ms,
            tags: tags.into_iter().collect(),
            unknown,
        })
}

impl Event {
    fn json(&self) -> String {
        let epoch = chrono::NaiveDate::default();
        let day = self.day.map(|days| (epoch + chrono::TimeDelta::days(days.into())).to_string());
        let mut event = json!({
            "text": self.text, "count": self.count, "is_good": self.is_good, "day": day, "at": self.at_ms,
            "tags": Value::Object(self.tags.iter().map(|(name, value)| (name.clone(), json!(value))).collect()),
            "unknown": self.unknown,
        });
        // serde_json has no NaN, and no decimal: written as producers do.
        let amount = self.amount.map_or("null".to_owned(), |amount| super::super::binary::decimal_text(amount, 4));
        let ratio = self.ratio.map_or("null".to_owned(), |ratio| {
            let mut text = String::new();
            super::super::render::write_double(&mut text, ratio);
            text
        });
        event["amount"] = Value::Null;
        event["ratio"] = Value::Null;
        event
            .to_string()
            .replace("\"amount\":null", &format!("\"amount\":{amount}"))
            .replace("\"ratio\":null", &format!("\"ratio\":{ratio}"))
    }
}

fn batch(events: &[Event]) -> RecordBatch {
    let mut tags = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for event in events {
        for (name, value) in &event.tags {
            tags.keys().append_value(name);
            tags.values().append_value(value);
        }
        tags.append(true).unwrap();
    }
    let amounts: Decimal128Array = events.iter().map(|event| event.amount).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("text", Arc::new(events.iter().map(|event| event.text.clone()).collect::<StringArray>())),
        ("count", Arc::new(events.iter().map(|event| event.count).collect::<Int64Array>())),
        ("ratio", Arc::new(events.iter().map(|event| event.ratio).collect::<Float64Array>())),
        ("amount", Arc::new(amounts.with_precision_and_scale(18, 4).unwrap())),
        ("is_good", Arc::new(events.iter().map(|event| event.is_good).collect::<BooleanArray>())),
        ("day", Arc::new(events.iter().map(|event| event.day).collect::<Date32Array>())),
        (
            "at",
            Arc::new(
                events
                    .iter()
                    .map(|event| Some(event.at_ms))
                    .collect::<TimestampMillisecondArray>()
                    .with_timezone("+00:00"),
            ),
        ),
        ("tags", Arc::new(tags.finish())),
        ("unknown", Arc::new(events.iter().map(|event| event.unknown.clone()).collect::<StringArray>())),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), *name != "at")).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn typed(format: Format) -> Contract {
    let mut contract = contract(vec![
        column("text", ColumnType::Text),
        column("count", ColumnType::BigInt),
        column("ratio", ColumnType::Double),
        column("amount", ColumnType::Decimal(18, 4)),
        column("is_good", ColumnType::Boolean),
        column("day", ColumnType::Date),
        ContractColumn { time_unit: Some(TimeUnit::Millisecond), ..column("at", ColumnType::Timestamp) },
        column("tags", ColumnType::Json),
    ]);
    contract.format = format;
    // Hashing walks every kind of value, texts with escapes included.
    contract.key = vec![KeyRule::Hash(contract.columns.iter().map(|column| column.name.clone()).collect())];
    contract
}

/// Rows and refusals.
fn summary(decoded: &Decoded) -> (Vec<Vec<String>>, Vec<String>) {
    let refused = decoded.rejections.iter().map(|found| format!("{} {}: {}", found.record, found.class, found.message));
    (rows(&decoded.batch), refused.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn avro_and_json_yield_the_same(events in prop::collection::vec(any_event(), 1..12)) {
        let batch = batch(&events);
        let schema = AvroSchema::try_from(batch.schema().as_ref()).unwrap();
        let mut encoder = WriterBuilder::new(batch.schema().as_ref().clone())
            .with_fingerprint_strategy(FingerprintStrategy::Id(17))
            .build_encoder::<AvroSoeFormat>()
            .unwrap();
        encoder.encode(&batch).unwrap();

        let mut by_avro = Decoder::new(&typed(Format::Avro)).unwrap();
        by_avro.begin(events.len());
        let registered = RegisteredSchema { kind: SchemaKind::Avro, text: schema.json_string, references: Vec::new() };
        by_avro.learn(SchemaId(17), Some(&registered));
        for value in encoder.flush().iter() {
            by_avro.push(&record(&value));
        }
        let mut by_json = Decoder::new(&typed(Format::Json)).unwrap();
        by_json.begin(events.len());
        for event in &events {
            by_json.push(&record(event.json().as_bytes()));
        }
        prop_assert_eq!(summary(&by_avro.finish().unwrap()), summary(&by_json.finish().unwrap()));
    }
}
