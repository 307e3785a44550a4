//! Table schemas: Arrow's on our side, Delta's in the log; and the table features that we know.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::{TryIntoArrow as _, TryIntoKernel as _};

use crate::actions::{Metadata, Protocol};

/// The property that lists the columns with a bloom filter, comma-separated.
pub(crate) const BLOOM_COLUMNS: &str = "tidemill.bloomColumns";

/// Features whose rules this room's writer keeps. `appendOnly` and `invariants` are kept by refusing tables that use them.
const WRITER_FEATURES: [&str; 3] = ["appendOnly", "invariants", "timestampNtz"];
/// Features that change nothing for a reader of live Parquet files.
const READER_FEATURES: [&str; 1] = ["timestampNtz"];

/// Turns an Arrow schema into the text that stands in the log.
pub(crate) fn to_delta(schema: &Schema) -> Result<String, ArrowError> {
    let delta: StructType = schema.try_into_kernel()?;
    serde_json::to_string(&delta).map_err(|source| ArrowError::JsonError(source.to_string()))
}

/// Turns the log's text into an Arrow schema: instants are microseconds UTC, text is `Utf8`.
pub(crate) fn from_delta(text: &str) -> Result<SchemaRef, ArrowError> {
    let delta: StructType = serde_json::from_str(text).map_err(|source| ArrowError::JsonError(source.to_string()))?;
    let schema: Schema = (&delta).try_into_arrow()?;
    Ok(Arc::new(schema))
}

/// The fields that stand in the files: all but the partition columns, in the table's order.
pub(crate) fn file_fields(schema: &Schema, partition_columns: &[String]) -> Vec<FieldRef> {
    schema.fields().iter().filter(|field| !partition_columns.contains(field.name())).map(Arc::clone).collect()
}

/// The feature that keeps us from reading the table's files as they are, if there is one.
pub(crate) fn unreadable_feature(protocol: &Protocol, metadata: &Metadata) -> Option<String> {
    match protocol.min_reader_version {
        ..=1 => None,
        3 => first_unknown(protocol.reader_features.as_deref(), &READER_FEATURES),
        2 if metadata.configuration.get("delta.columnMapping.mode").is_none_or(|mode| mode == "none") => None,
        2 => Some("columnMapping".to_owned()),
        version => Some(format!("reader version {version}")),
    }
}

/// The feature that keeps us from writing to the table, if there is one.
pub(crate) fn unwritable_feature(protocol: &Protocol, metadata: &Metadata) -> Option<String> {
    if let Some(feature) = unreadable_feature(protocol, metadata) {
        return Some(feature);
    }
    if metadata.configuration.get("delta.appendOnly").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Some("appendOnly".to_owned());
    }
    if metadata.schema_string.contains("delta.invariants") {
        return Some("invariants".to_owned());
    }
    match protocol.min_writer_version {
        ..=2 => None,
        7 => first_unknown(protocol.writer_features.as_deref(), &WRITER_FEATURES),
        version => Some(format!("writer version {version}")),
    }
}

fn first_unknown(features: Option<&[String]>, known: &[&str]) -> Option<String> {
    features.unwrap_or_default().iter().find(|feature| !known.contains(&feature.as_str())).cloned()
}

/// What `declared` asks for and `found` does not have, as text for people; `None` when the table will do.
///
/// Columns that only the table has are no difference: they stay null in what is written.
pub(crate) fn difference(declared: &Schema, found: &Schema) -> Option<String> {
    let mut missing = Vec::new();
    for field in declared.fields() {
        match found.field_with_name(field.name()) {
            Err(_) => missing.push(format!("column `{}` is missing", field.name())),
            Ok(there) if !same_type(field.data_type(), there.data_type()) => missing.push(format!(
                "column `{}` is {} instead of {}",
                field.name(),
                there.data_type(),
                field.data_type()
            )),
            Ok(_) => {}
        }
    }
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// Whether two types are the same for Delta, which knows neither names of list elements nor widths of text offsets.
pub(crate) fn same_type(left: &DataType, right: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeList, LargeUtf8, List, Struct, Utf8, Utf8View};
    match (left, right) {
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View)
        | (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView)
        | (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, Some(_)))
        | (DataType::Timestamp(_, None), DataType::Timestamp(_, None)) => true,
        (List(left) | LargeList(left), List(right) | LargeList(right)) => {
            same_type(left.data_type(), right.data_type())
        }
        (Struct(left), Struct(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| left.name() == right.name() && same_type(left.data_type(), right.data_type()))
        }
        (left, right) => left == right,
    }
}

/// The schema with nullable columns added at its end.
pub(crate) fn with_columns(schema: &Schema, fields: Vec<Field>) -> Schema {
    let added = fields.into_iter().map(|field| Arc::new(field.with_nullable(true)));
    Schema::new(schema.fields().iter().map(Arc::clone).chain(added).collect::<Vec<_>>())
}
