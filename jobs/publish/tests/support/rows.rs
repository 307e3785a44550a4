//! Rows of models as JSON, and messages as readers see them: shared by the tests of topics and of Redis.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::json::ReaderBuilder;
use serde_json::Value;
use tidemill_lake::TableId;
use tidemill_project::Location;
use tidemill_publish::{Emit, Messages, Publication, PublishRequest, Strategy, Target};

/// Columns by their types in the notation of the systems page: `user_id TEXT, clicks BIGINT`.
pub(crate) fn rows(columns: &str, rows: &Value) -> RecordBatch {
    let fields = columns.split(", ").map(|column| {
        let (name, kind) = column.split_once(' ').unwrap();
        let data_type = match kind {
            "TEXT" | "JSON" => DataType::Utf8,
            "BIGINT" => DataType::Int64,
            "DOUBLE" => DataType::Float64,
            "BOOLEAN" => DataType::Boolean,
            "DATE" => DataType::Date32,
            "TS" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "DECIMAL" => DataType::Decimal128(18, 6),
            kind => panic!("no such type: {kind}"),
        };
        Field::new(name, data_type, true)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).build_decoder().unwrap();
    decoder.serialize(rows.as_array().unwrap()).unwrap();
    decoder.flush().unwrap().unwrap_or_else(|| RecordBatch::new_empty(schema))
}

/// `2025-03-09T12:00:00Z` as microseconds.
pub(crate) fn us(text: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}

/// A publication of `model` into `target`, without fields of its own.
pub(crate) fn messages(model: &str, target: Target, unique_key: &[&str], emit: Emit, key: Option<&str>) -> Publication {
    Publication {
        model: TableId::model("main", model),
        model_name: model.into(),
        target,
        unique_key: unique_key.iter().map(|column| (*column).to_owned()).collect(),
        strategy: Strategy::Merge,
        columns: None,
        json_columns: Vec::new(),
        filter: None,
        messages: Some(Messages { emit, key: key.map(str::to_owned), window_end: "window_end".into(), ttl: None }),
        location: Location::new("models.yml", 1, 1),
    }
}

/// Publishes what is new.
pub(crate) fn request_of(publication: &Publication) -> PublishRequest {
    PublishRequest { publications: vec![publication.clone()], run_id: "run-1".into(), full: false, dry_run: false }
}
