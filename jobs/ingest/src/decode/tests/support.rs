//! Contracts of the golden cases, written out, and short ways to decode one record.

use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tidemill_project::SourceName;
use tidemill_project::contract::{
    ColumnType, Contract, ContractColumn, KeyRule, PartitionBy, TextFormat, TimeUnit, TopicRule,
};

use crate::decode::{Decoded, Decoder, NoHeaders, Pushed, Record, Rejection};

/// 2025-03-09T00:00:10Z, the `_timestamp` of GX3.
pub(crate) const NOW_US: i64 = 1_741_478_410_000_000;

pub(crate) fn column(name: &str, data_type: ColumnType) -> ContractColumn {
    ContractColumn::plain(name, data_type)
}

/// A contract whose event time is the column `at`: a timestamp in seconds, unless `columns` declares another one.
pub(crate) fn contract(mut columns: Vec<ContractColumn>) -> Contract {
    if !columns.iter().any(|column| column.name == "at") {
        columns.push(ContractColumn { time_unit: Some(TimeUnit::Second), ..column("at", ColumnType::Timestamp) });
    }
    Contract {
        topics: vec![TopicRule { pattern: "events".to_owned(), defaults: Vec::new() }],
        grace: Duration::from_mins(5),
        ..Contract::plain(SourceName::new("shop", "events"), "at", columns)
    }
}

pub(crate) fn zoner() -> Contract {
    let text = |name: &str| column(name, ColumnType::Text);
    let strings = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let mut contract = contract(vec![
        ContractColumn { required: true, accept_text: true, min: Some(1.0), ..column("user_id", ColumnType::BigInt) },
        ContractColumn {
            required: true,
            aliases: vec![("meals".to_owned(), "meal".to_owned())],
            accepted_values: strings(&["sleep", "meal", "light_exposure"]),
            ..text("activity")
        },
        ContractColumn {
            required: true,
            time_unit: Some(TimeUnit::Second),
            ..column("timestamp", ColumnType::Timestamp)
        },
        text("event_id"),
        ContractColumn { accepted_values: strings(&["start", "end"]), ..text("phase") },
        ContractColumn {
            accept_text: true,
            min: Some(0.0),
            max: Some(50_400.0),
            ..column("duration_s", ColumnType::Decimal(18, 6))
        },
        ContractColumn { text_format: Some(TextFormat::TimeZone), ..text("tz") },
    ]);
    contract.columns.retain(|column| column.name != "at");
    contract.event_time.column = "timestamp".to_owned();
    contract.key = vec![
        KeyRule::Field("event_id".to_owned()),
        KeyRule::Hash(strings(&["user_id", "activity", "timestamp", "phase"])),
    ];
    contract.topics = [
        ("user_activity", None),
        ("sleep", Some("sleep")),
        ("meals", Some("meals")),
        ("light_exposure", Some("light_exposure")),
    ]
    .map(|(pattern, activity)| TopicRule {
        pattern: pattern.to_owned(),
        defaults: activity.map(|value: &str| ("activity".to_owned(), value.to_owned())).into_iter().collect(),
    })
    .into();
    contract
}

pub(crate) fn logins() -> Contract {
    let names = ["user_id", "app_version", "device_type", "ip", "locale", "device_id"];
    let mut columns: Vec<ContractColumn> = names
        .map(|name| ContractColumn {
            on_missing: Some("unknown".to_owned()),
            empty_is_missing: true,
            max_bytes: Some(256),
            text_format: (name == "ip").then_some(TextFormat::Ip),
            ..column(name, ColumnType::Text)
        })
        .into();
    columns.push(ContractColumn {
        required: true,
        accept_text: true,
        time_unit: Some(TimeUnit::Second),
        ..column("timestamp", ColumnType::BigInt)
    });
    let mut contract = contract(columns);
    contract.columns.retain(|column| column.name != "at");
    contract.event_time.column = "timestamp".to_owned();
    contract.key = vec![KeyRule::Hash(contract.columns.iter().map(|column| column.name.clone()).collect())];
    contract.partition_by = PartitionBy::Hour;
    contract.grace = Duration::from_secs(10);
    contract
}

/// The example of L2.
pub(crate) const LOGIN: &str = r#"{"user_id": "9f0c2a7e-1111-4000-8000-000000000001", "app_version": "2.4.1", "device_type": "android", "ip": "203.0.113.9", "locale": "MI", "device_id": "5c1d8f00-2222-4000-8000-000000000002", "timestamp": "1730570189"}"#;

pub(crate) fn record(payload: &[u8]) -> Record<'_> {
    Record {
        payload: Some(payload),
        headers: &NoHeaders,
        topic: Some("events"),
        topic_rule: Some(0),
        partition: Some(0),
        offset: Some(7),
        place_in_file: None,
        timestamp_us: Some(NOW_US),
        clock_us: NOW_US,
    }
}

/// Decodes payloads as records of one topic.
pub(crate) fn decode_all(contract: &Contract, payloads: &[&[u8]]) -> Decoded {
    let mut decoder = Decoder::new(contract).expect("a contract that compiles");
    decoder.begin(payloads.len());
    for payload in payloads {
        decoder.push(&record(payload));
    }
    decoder.finish().expect("columns of one length")
}

/// Decodes one record: the row as a batch of one, or the rejection.
pub(crate) fn decode_record(contract: &Contract, record: &Record<'_>) -> Result<Decoded, Rejection> {
    let mut decoder = Decoder::new(contract).expect("a contract that compiles");
    decoder.begin(1);
    let pushed = decoder.push(record);
    let mut decoded = decoder.finish().expect("columns of one length");
    match pushed {
        Pushed::Landed(0) => {
            assert_eq!((decoded.batch.num_rows(), decoded.rejections.len()), (1, 0));
            Ok(decoded)
        }
        Pushed::Rejected(class) => {
            assert_eq!((decoded.batch.num_rows(), decoded.rejections.len()), (0, 1));
            let rejection = decoded.rejections.remove(0);
            assert_eq!(rejection.class, class);
            Err(rejection)
        }
        other => panic!("one record became {other:?}"),
    }
}

pub(crate) fn decode(contract: &Contract, payload: impl AsRef<[u8]>) -> Result<Decoded, Rejection> {
    decode_record(contract, &record(payload.as_ref()))
}

/// The class and message of a payload that must not land.
pub(crate) fn refusal(contract: &Contract, payload: impl AsRef<[u8]>) -> String {
    let payload = payload.as_ref();
    match decode(contract, payload) {
        Err(rejection) => format!("{}: {}", rejection.class, rejection.message),
        Ok(_) => panic!("landed: {}", String::from_utf8_lossy(payload)),
    }
}

/// A value of the first row as text, `null` for null.
pub(crate) fn value(decoded: &Decoded, name: &str) -> String {
    cell(&decoded.batch, name, 0)
}

/// The value of a payload that must land.
pub(crate) fn landed(contract: &Contract, payload: impl AsRef<[u8]>, name: &str) -> String {
    match decode(contract, payload) {
        Ok(decoded) => value(&decoded, name),
        Err(rejection) => panic!("{}: {}", rejection.class, rejection.message),
    }
}

pub(crate) fn cell(batch: &RecordBatch, name: &str, row: usize) -> String {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    if column.is_null(row) {
        return "null".to_owned();
    }
    let options = FormatOptions::default().with_null("null");
    ArrayFormatter::try_new(column, &options).expect("a printable column").value(row).to_string()
}

/// All rows as text, for comparing whole batches.
pub(crate) fn rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    (0..batch.num_rows()).map(|row| names.iter().map(|name| cell(batch, name, row)).collect()).collect()
}
