//! Arrow columns of a batch on their way, and the schema of the raw table.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int32Builder, Int64Builder, ListArray,
    NullBufferBuilder, RecordBatch, StringBuilder, StructArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use tidemill_project::clock::Micros;
use tidemill_project::contract::{ColumnType, Contract, PartitionBy};

use super::nested::Value;
use super::record::Record;
use super::value::{Cell, Texts};

/// Instants everywhere in the lake: microseconds, UTC.
pub(crate) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The schema of the contract's raw table, partition columns included.
///
/// Every column is nullable, also `_key`: what is required is the contract's business and may change with it, while a
/// constraint of the table could not be taken back without rewriting it.
pub(crate) fn raw_schema(contract: &Contract) -> SchemaRef {
    let mut fields = payload_fields(contract);
    fields.extend(kafka_fields());
    fields.push(Field::new("_ingested_at", timestamp_type(), true));
    fields.extend(event_fields());
    fields.push(Field::new("event_date", DataType::Date32, true));
    if contract.partition_by == PartitionBy::Hour {
        fields.push(Field::new("event_hour", DataType::Int32, true));
    }
    Arc::new(Schema::new(fields))
}

fn payload_fields(contract: &Contract) -> Vec<Field> {
    contract.columns.iter().map(|column| Field::new(&column.name, arrow_type(&column.data_type), true)).collect()
}

fn kafka_fields() -> [Field; 5] {
    [
        Field::new("_key", DataType::Utf8, true),
        Field::new("_topic", DataType::Utf8, true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_timestamp", timestamp_type(), true),
    ]
}

fn event_fields() -> [Field; 2] {
    [Field::new("_extra", DataType::Utf8, true), Field::new("event_at", timestamp_type(), true)]
}

fn arrow_type(data_type: &ColumnType) -> DataType {
    match data_type {
        ColumnType::Text | ColumnType::Json => DataType::Utf8,
        ColumnType::BigInt => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale),
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => timestamp_type(),
        ColumnType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|(name, field)| Field::new(name, arrow_type(field), true)).collect())
        }
        ColumnType::List(element) => DataType::List(Arc::new(Field::new("element", arrow_type(element), true))),
    }
}

/// What a row has beside its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowFacts<'a> {
    pub(crate) key: &'a str,
    pub(crate) extra: Option<&'a str>,
    pub(crate) event_at_us: Micros,
}

/// The columns of one batch.
#[derive(Debug)]
pub(crate) struct Columns {
    schema: SchemaRef,
    payload: Vec<Builder>,
    key: StringBuilder,
    topic: StringBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
    timestamp: TimestampMicrosecondBuilder,
    extra: StringBuilder,
    event_at: TimestampMicrosecondBuilder,
    /// Per payload column, the bytes of a text in the last batch: what the next one makes room for.
    usual_text_bytes: Vec<usize>,
    /// Bytes of a row's values without its texts.
    row_bytes: usize,
    num_rows: usize,
    text_bytes: usize,
}

impl Columns {
    pub(crate) fn new(contract: &Contract) -> Self {
        let mut fields = payload_fields(contract);
        let payload: Vec<Builder> = fields.iter().map(|field| Builder::new(field.data_type(), 0)).collect();
        fields.extend(kafka_fields());
        fields.extend(event_fields());
        let row_bytes = 9 * fields.len();
        Self {
            schema: Arc::new(Schema::new(fields)),
            usual_text_bytes: vec![16; payload.len()],
            payload,
            key: StringBuilder::new(),
            topic: StringBuilder::new(),
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            timestamp: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            extra: StringBuilder::new(),
            event_at: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            row_bytes,
            num_rows: 0,
            text_bytes: 0,
        }
    }

    /// Throws away what is buffered and makes room for `capacity` rows.
    pub(crate) fn begin(&mut self, capacity: usize) {
        for ((builder, field), text_bytes) in
            self.payload.iter_mut().zip(self.schema.fields()).zip(&self.usual_text_bytes)
        {
            *builder = Builder::new(field.data_type(), capacity);
            if let Builder::Text(builder) = builder {
                *builder = StringBuilder::with_capacity(capacity, capacity * text_bytes);
            }
        }
        self.key = StringBuilder::with_capacity(capacity, 32 * capacity);
        self.topic = StringBuilder::with_capacity(capacity, 12 * capacity);
        self.partition = Int32Builder::with_capacity(capacity);
        self.offset = Int64Builder::with_capacity(capacity);
        self.timestamp = TimestampMicrosecondBuilder::with_capacity(capacity).with_timezone("UTC");
        self.extra = StringBuilder::with_capacity(capacity, 0);
        self.event_at = TimestampMicrosecondBuilder::with_capacity(capacity).with_timezone("UTC");
        self.num_rows = 0;
        self.text_bytes = 0;
    }

    /// Bytes of the values that are buffered, about; what the builders hold in reserve is not counted.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.num_rows * self.row_bytes + self.text_bytes
    }

    /// Appends one row. Nothing can fail here: the record has been found good as a whole.
    pub(crate) fn append(
        &mut self,
        cells: &[Cell],
        nested: &[Value],
        texts: &Texts<'_>,
        facts: RowFacts<'_>,
        record: &Record<'_>,
    ) {
        for (builder, cell) in self.payload.iter_mut().zip(cells) {
            self.text_bytes += match cell {
                Cell::Text(_, span) => span.len(),
                Cell::Nested(index) => nested[*index].size(),
                _ => 0,
            };
            match cell {
                Cell::Nested(index) => builder.append_value(&nested[*index]),
                _ => builder.append(*cell, texts),
            }
        }
        self.text_bytes += facts.key.len() + facts.extra.map_or(0, str::len) + record.topic.map_or(0, str::len);
        self.key.append_value(facts.key);
        self.topic.append_option(record.topic);
        self.partition.append_option(record.partition);
        self.offset.append_option(record.offset);
        self.timestamp.append_option(record.timestamp_us);
        self.extra.append_option(facts.extra);
        self.event_at.append_value(facts.event_at_us);
        self.num_rows += 1;
    }

    /// Takes the rows out.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (builder, usual) in self.payload.iter_mut().zip(&mut self.usual_text_bytes) {
            if let (Builder::Text(builder), 1..) = (&builder, self.num_rows) {
                *usual = builder.values_slice().len().div_ceil(self.num_rows);
            }
            columns.push(builder.finish()?);
        }
        columns.push(Arc::new(self.key.finish()));
        columns.push(Arc::new(self.topic.finish()));
        columns.push(Arc::new(self.partition.finish()));
        columns.push(Arc::new(self.offset.finish()));
        columns.push(Arc::new(self.timestamp.finish()));
        columns.push(Arc::new(self.extra.finish()));
        columns.push(Arc::new(self.event_at.finish()));
        self.num_rows = 0;
        self.text_bytes = 0;
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

/// The values of one payload column.
#[derive(Debug)]
enum Builder {
    Text(StringBuilder),
    Int(Int64Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder),
    Bool(BooleanBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Struct { fields: Fields, children: Vec<Builder>, validity: NullBufferBuilder, len: usize },
    List { element: Arc<Field>, child: Box<Builder>, lengths: Vec<usize>, validity: NullBufferBuilder },
}

impl Builder {
    fn new(data_type: &DataType, capacity: usize) -> Self {
        match data_type {
            DataType::Int64 => Self::Int(Int64Builder::with_capacity(capacity)),
            DataType::Float64 => Self::Double(Float64Builder::with_capacity(capacity)),
            DataType::Decimal128(..) => {
                Self::Decimal(Decimal128Builder::with_capacity(capacity).with_data_type(data_type.clone()))
            }
            DataType::Boolean => Self::Bool(BooleanBuilder::with_capacity(capacity)),
            DataType::Date32 => Self::Date(Date32Builder::with_capacity(capacity)),
            DataType::Timestamp(..) => {
                Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(capacity).with_timezone("UTC"))
            }
            DataType::Struct(fields) => Self::Struct {
                fields: fields.clone(),
                children: fields.iter().map(|field| Self::new(field.data_type(), capacity)).collect(),
                validity: NullBufferBuilder::new(capacity),
                len: 0,
            },
            DataType::List(element) => Self::List {
                element: Arc::clone(element),
                child: Box::new(Self::new(element.data_type(), capacity)),
                lengths: Vec::with_capacity(capacity),
                validity: NullBufferBuilder::new(capacity),
            },
            // `arrow_type` makes no other type.
            _ => Self::Text(StringBuilder::with_capacity(capacity, 0)),
        }
    }

    #[inline]
    fn append(&mut self, cell: Cell, texts: &Texts<'_>) {
        match (self, cell) {
            (Self::Text(builder), Cell::Text(place, span)) => builder.append_value(texts.get(place, span)),
            (Self::Int(builder), Cell::Int(value)) => builder.append_value(value),
            (Self::Int(builder), Cell::Time(instant)) => builder.append_value(instant.units),
            (Self::Timestamp(builder), Cell::Time(instant)) => builder.append_value(instant.micros),
            (Self::Double(builder), Cell::Double(value)) => builder.append_value(value),
            (Self::Decimal(builder), Cell::Decimal(value)) => builder.append_value(value),
            (Self::Bool(builder), Cell::Bool(value)) => builder.append_value(value),
            (Self::Date(builder), Cell::Days(days)) => builder.append_value(days),
            // Shapes and builders are made from the same column type, so what remains is null.
            (builder, _) => builder.append_null(),
        }
    }

    fn append_value(&mut self, value: &Value) {
        const NO_TEXTS: Texts<'_> = Texts { payload: "", decoded: "", constants: "" };
        match (self, value) {
            (Self::Text(builder), Value::Text(text)) => builder.append_value(text),
            (Self::Struct { children, validity, len, .. }, Value::Struct(values)) => {
                children.iter_mut().zip(values).for_each(|(child, value)| child.append_value(value));
                validity.append_non_null();
                *len += 1;
            }
            (Self::List { child, lengths, validity, .. }, Value::List(values)) => {
                for value in values {
                    child.append_value(value);
                }
                lengths.push(values.len());
                validity.append_non_null();
            }
            (builder, Value::Scalar(cell)) => builder.append(*cell, &NO_TEXTS),
            (builder, _) => builder.append_null(),
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Text(builder) => builder.append_null(),
            Self::Int(builder) => builder.append_null(),
            Self::Double(builder) => builder.append_null(),
            Self::Decimal(builder) => builder.append_null(),
            Self::Bool(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::Struct { children, validity, len, .. } => {
                children.iter_mut().for_each(Self::append_null);
                validity.append_null();
                *len += 1;
            }
            Self::List { lengths, validity, .. } => {
                lengths.push(0);
                validity.append_null();
            }
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Int(builder) => Arc::new(builder.finish()),
            Self::Double(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Struct { fields, children, validity, len } => {
                let arrays = children.iter_mut().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                let len = std::mem::take(len);
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, validity.finish(), len)?)
            }
            Self::List { element, child, lengths, validity } => {
                let offsets = OffsetBuffer::from_lengths(lengths.drain(..));
                Arc::new(ListArray::try_new(Arc::clone(element), offsets, child.finish()?, validity.finish())?)
            }
        })
    }
}
