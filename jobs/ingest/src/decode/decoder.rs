//! The decoder itself: one record after the other into one batch after the other.

use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;
use tidemill_project::clock::Micros;
use tidemill_project::contract::Contract;

use super::avro::{PREFIX_BYTES, RegisteredSchema, SchemaId, Wire, Writer};
use super::columns::{Columns, RowFacts, raw_schema};
use super::error::{Cause, Result};
use super::fault::{Faults, Problem};
use super::key::{self, KeyWriter};
use super::nested::Value;
use super::plan::{Column, Content, Plan};
use super::record::{Decoded, EventPartition, Pushed, Record, Rejection, RejectionClass, Row};
use super::scan::{Malformed, Scanner, Token};
use super::time::{US_PER_DAY, US_PER_HOUR};
use super::value::{Cell, Texts};

/// Turns records into rows of the raw table, or into rejections, by one contract.
///
/// Pure: no I/O, no clock but the one in the records; the same records give the same rows however they are cut into batches.
/// Buffers are used again from batch to batch; a decoder belongs to one thread at a time.
#[derive(Debug)]
pub struct Decoder {
    plan: Plan,
    /// Of contracts whose records name their writer's schema.
    wire: Option<Wire>,
    /// Values of an Avro record as text.
    text: String,
    schema: SchemaRef,
    work: Workspace,
    columns: Columns,
    rows: Vec<Row>,
    partitions: Vec<EventPartition>,
    partition_index: HashMap<EventPartition, usize>,
    rejections: Vec<Rejection>,
    rejection_bytes: usize,
    topic_disagreements: usize,
    num_records: usize,
}

/// What one record is taken apart into.
#[derive(Debug, Default)]
struct Workspace {
    scanner: Scanner,
    /// Per column, the value that counts.
    resolved: Vec<Token>,
    cells: Vec<Cell>,
    nested: Vec<Value>,
    faults: Faults,
    key: KeyWriter,
}

impl Decoder {
    /// Compiles a contract.
    ///
    /// # Errors
    /// A configuration error when the contract names columns that it does not declare, gives defaults that their columns do
    /// not take, its event time is neither a timestamp, a date nor a bigint with a unit, or its schema does not serve its
    /// columns.
    pub fn new(contract: &Contract) -> Result<Self> {
        let plan = Plan::new(contract)?;
        let scanner = Scanner::new(plan.on_extra);
        Ok(Self {
            schema: raw_schema(contract),
            columns: Columns::new(contract),
            wire: Wire::new(contract)?,
            text: String::new(),
            work: Workspace { scanner, ..Workspace::default() },
            plan,
            rows: Vec::new(),
            partitions: Vec::new(),
            partition_index: HashMap::new(),
            rejections: Vec::new(),
            rejection_bytes: 0,
            topic_disagreements: 0,
            num_records: 0,
        })
    }

    /// The raw table's columns: the payload's in the order of the contract, `_key`, `_topic`, `_partition`, `_offset`,
    /// `_timestamp`, `_ingested_at`, `_extra`, `event_at`, and the partition columns `event_date` and, by hour,
    /// `event_hour`. All nullable; instants are microseconds UTC.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// Starts a batch for about `capacity` records; what was pushed before and not finished is thrown away.
    pub fn begin(&mut self, capacity: usize) {
        self.columns.begin(capacity);
        self.rows = Vec::with_capacity(capacity);
        self.partitions = Vec::new();
        self.partition_index.clear();
        self.rejections = Vec::new();
        self.rejection_bytes = 0;
        self.topic_disagreements = 0;
        self.num_records = 0;
        if let Some(wire) = &mut self.wire {
            wire.forget_unknown();
        }
    }

    /// Whether records name the schema that they were written with, so that a registry is needed to read them.
    #[must_use]
    pub fn needs_schemas(&self) -> bool {
        self.wire.is_some()
    }

    /// The schema that must be [learnt](Self::learn) before a record of this value can be decoded; `None` when there is
    /// nothing to learn. Ids that the registry did not know are wanted again after [`begin`](Self::begin).
    #[inline]
    pub fn wanted_schema(&mut self, value: &[u8]) -> Option<SchemaId> {
        self.wire.as_mut()?.wanted(value)
    }

    /// Takes note of a writer's schema; `None` when the registry does not know the id.
    pub fn learn(&mut self, id: SchemaId, schema: Option<&RegisteredSchema>) {
        if let Some(wire) = &mut self.wire {
            wire.learn(&self.plan, id, schema);
        }
    }

    /// Decodes one record. Its index, counted from 0 since [`begin`](Self::begin), is what rows and rejections refer to.
    ///
    /// # Panics
    /// When one text column of the batch would hold more than 2 GiB; batches close by [`buffered_bytes`](Self::buffered_bytes)
    /// long before.
    pub fn push(&mut self, record: &Record<'_>) -> Pushed {
        let index = self.num_records;
        self.num_records += 1;
        let Some(payload) = record.payload else { return Pushed::Tombstone };
        match self.decode(index, payload, record) {
            Ok(()) => Pushed::Landed(self.rows.len() - 1),
            Err(rejection) => {
                let class = rejection.class;
                self.rejection_bytes += std::mem::size_of::<Rejection>() + rejection.message.len();
                self.rejections.push(rejection);
                Pushed::Rejected(class)
            }
        }
    }

    /// Records pushed since [`begin`](Self::begin), tombstones included.
    #[must_use]
    pub fn num_records(&self) -> usize {
        self.num_records
    }

    /// Bytes of the rows and rejections that are buffered, about; for the batch's limit and the memory budget. The bytes of
    /// rejected records are not among them: they stay with the caller.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.columns.buffered_bytes() + self.rows.len() * std::mem::size_of::<Row>() + self.rejection_bytes
    }

    /// Takes the batch out; the decoder is ready for the next one. Rows stand in the order of their records.
    ///
    /// # Errors
    /// Only by a mistake of ours: columns of unequal length.
    pub fn finish(&mut self) -> Result<Decoded> {
        let batch = self.columns.finish().map_err(|source| Cause::Arrow { source })?;
        let decoded = Decoded {
            batch,
            rows: std::mem::take(&mut self.rows),
            partitions: std::mem::take(&mut self.partitions),
            rejections: std::mem::take(&mut self.rejections),
            topic_disagreements: self.topic_disagreements,
        };
        self.begin(0);
        Ok(decoded)
    }

    fn decode(&mut self, index: usize, value: &[u8], record: &Record<'_>) -> Result<(), Rejection> {
        let mut text = std::mem::take(&mut self.text);
        let outcome = self.decode_value(index, value, record, &mut text);
        self.text = text;
        outcome
    }

    fn decode_value(
        &mut self,
        index: usize,
        value: &[u8],
        record: &Record<'_>,
        text: &mut String,
    ) -> Result<(), Rejection> {
        let Self { plan, work, wire, .. } = self;
        let reject = |class, message| Rejection { record: index, class, message };
        // Files hold JSON whatever the topic holds.
        let wire = wire.as_ref().filter(|_| record.topic.is_some());
        let payload = work.read(plan, wire, value, text).map_err(|(class, message)| reject(class, message))?;
        let disagrees = work.convert(plan, payload, record);
        work.check_fields(plan, payload);
        let event_at_us = work.event_time(plan, record);
        let texts = Texts { payload, decoded: &work.scanner.decoded, constants: &plan.constants };
        let source = key::source(plan, &work.resolved, &texts, record);
        if let Err(problem) = &source {
            work.faults.add(&key::describe(plan), problem);
        }
        let (Some(event_at_us), Ok(source), true) = (event_at_us, source, work.faults.is_empty()) else {
            return Err(work.faults.rejection(index).unwrap_or_else(|| {
                reject(RejectionClass::MissingField, format!("`{}` is missing", plan.columns[plan.event_time].field))
            }));
        };
        let fingerprint = work.key.write(source, plan, &work.cells, &texts);
        let facts = RowFacts { key: &work.key.key, extra: work.scanner.extra.text(), event_at_us };
        self.columns.append(&work.cells, &work.nested, &texts, facts, record);

        let lateness = record.timestamp_us.map(|timestamp| timestamp.saturating_sub(event_at_us));
        let is_late = lateness.is_some_and(|lateness| lateness > self.plan.grace_us);
        let partition = self.partition(event_at_us);
        self.rows.push(Row { record: index, fingerprint, event_at_us, partition, is_late });
        self.topic_disagreements += usize::from(disagrees);
        Ok(())
    }

    /// The index of the partition that an event time belongs to.
    fn partition(&mut self, event_at_us: Micros) -> usize {
        let days = event_at_us.div_euclid(US_PER_DAY);
        let hour = event_at_us.rem_euclid(US_PER_DAY) / US_PER_HOUR;
        let partition = EventPartition {
            event_date: i32::try_from(days).expect("a plausible event time lies in the years 1 to 9999"),
            event_hour: self.plan.has_hours.then(|| i32::try_from(hour).expect("a day has 24 hours")),
        };
        // Neighbours mostly share their partition, so the last one is looked at before the table.
        if let Some(row) = self.rows.last()
            && self.partitions[row.partition] == partition
        {
            return row.partition;
        }
        *self.partition_index.entry(partition).or_insert_with(|| {
            self.partitions.push(partition);
            self.partitions.len() - 1
        })
    }
}

impl Workspace {
    /// Takes a value apart. Answers the text that the tokens point into: the value's own, or what stands for it in `text`.
    fn read<'v>(
        &mut self,
        plan: &Plan,
        wire: Option<&Wire>,
        value: &'v [u8],
        text: &'v mut String,
    ) -> Result<&'v str, (RejectionClass, String)> {
        let malformed = |fault: Malformed| (RejectionClass::Malformed, fault.to_string());
        let mut value = usable(value, plan.max_record_bytes)?;
        if let Some(wire) = wire
            && let Some(writer) = wire.open(value)?
        {
            if let Writer::Avro(layout) = writer {
                layout.scan(&mut self.scanner, &plan.paths, value, PREFIX_BYTES, text).map_err(malformed)?;
                return Ok(text);
            }
            value = usable(&value[PREFIX_BYTES..], plan.max_record_bytes)?;
        }
        let payload =
            std::str::from_utf8(value).map_err(|error| malformed(Malformed::Utf8 { at: error.valid_up_to() }))?;
        self.scanner.scan(&plan.paths, payload).map_err(malformed)?;
        Ok(payload)
    }

    /// Converts every column's value. Answers whether the payload disagrees with its topic (Z5).
    fn convert(&mut self, plan: &Plan, payload: &str, record: &Record<'_>) -> bool {
        self.resolved.clear();
        self.cells.clear();
        self.nested.clear();
        self.faults.clear();
        let texts = Texts { payload, decoded: &self.scanner.decoded, constants: &plan.constants };
        let mut disagrees = false;
        for column in &plan.columns {
            let token = column.resolve(&self.scanner.tokens, &self.cells, &texts);
            let default = record.topic_rule.and_then(|rule| column.topic_defaults.get(rule)).copied();
            let default = default.unwrap_or(Cell::Null);
            let cell = match (token, &column.content) {
                (Token::Absent, _) if default != Cell::Null => default,
                (Token::Absent, _) if column.on_missing != Cell::Null => column.on_missing,
                (Token::Absent, _) => {
                    if column.required {
                        self.faults.add(&column.field, &missing());
                    }
                    Cell::Null
                }
                (_, Content::Flat(shape)) => match shape.convert(token, &texts) {
                    Ok(cell) => {
                        disagrees |= default != Cell::Null && !same(cell, default, &texts);
                        cell
                    }
                    Err(problem) => {
                        self.faults.add(&column.field, &problem);
                        Cell::Null
                    }
                },
                (_, Content::Nested(nest)) => {
                    let mut unknown = false;
                    let value = nest.read(token, &texts, &column.field, &mut self.faults, &mut unknown);
                    if let (true, Token::Object(span) | Token::Array(span)) = (unknown, token) {
                        self.scanner.extra.add_value(&column.name, span.of(payload));
                    }
                    self.nested.push(value);
                    Cell::Nested(self.nested.len() - 1)
                }
            };
            self.resolved.push(token);
            self.cells.push(cell);
        }
        disagrees
    }

    /// Checks what concerns several fields, and the fields that no column knows.
    fn check_fields(&mut self, plan: &Plan, payload: &str) {
        for (index, column) in plan.columns.iter().enumerate() {
            if self.cells[index] == Cell::Null
                && self.resolved[index] == Token::Absent
                && !column.required
                && self.is_required_now(plan, column, payload)
            {
                self.faults.add(&column.field, &missing());
            }
        }
        for entry in &self.scanner.blocked {
            let name = &plan.paths.entry(*entry).name;
            self.faults.add(name, &Problem::new(RejectionClass::WrongType, "is not an object"));
        }
        for name in &self.scanner.unknown_symbols {
            let problem =
                Problem::new(RejectionClass::BadValue, "is a symbol that the contract's schema does not have");
            self.faults.add(name, &problem);
        }
        for name in self.scanner.extra.not_finite() {
            self.faults.add(name, &Problem::new(RejectionClass::BadValue, "holds NaN or an infinity"));
        }
        for name in self.scanner.extra.unknown() {
            self.faults.add(name, &Problem::new(RejectionClass::BadValue, "is not in the contract"));
        }
    }

    fn is_required_now(&self, plan: &Plan, column: &Column, payload: &str) -> bool {
        let texts = Texts { payload, decoded: &self.scanner.decoded, constants: &plan.constants };
        column
            .required_without
            .is_some_and(|other| self.cells[other] == Cell::Null && self.resolved[other] == Token::Absent)
            || column.required_when.as_ref().is_some_and(|condition| condition.holds(&self.cells, &texts))
    }

    /// The event time, if it is there and plausible (X5).
    fn event_time(&mut self, plan: &Plan, record: &Record<'_>) -> Option<Micros> {
        let event_at_us = match self.cells[plan.event_time] {
            Cell::Time(instant) => instant.micros,
            Cell::Days(days) => i64::from(days) * US_PER_DAY,
            _ => return None,
        };
        let latest = record.timestamp_us.unwrap_or(record.clock_us).saturating_add(plan.max_future_us);
        let problem = if event_at_us < plan.min_event_time_us {
            "is earlier than the contract's earliest event time"
        } else if event_at_us > latest {
            "is too far ahead of the record's timestamp"
        } else {
            return Some(event_at_us);
        };
        let field = &plan.columns[plan.event_time].field;
        self.faults.add(field, &Problem::new(RejectionClass::EventTimeOutOfRange, problem));
        None
    }
}

/// Turns away what needs no parser: too long, empty, or nothing but blanks. A byte order mark at the front is skipped.
fn usable(payload: &[u8], max_bytes: usize) -> Result<&[u8], (RejectionClass, String)> {
    if payload.len() > max_bytes {
        let message = format!("record is longer than {max_bytes} bytes, bytes=`{}`", payload.len());
        return Err((RejectionClass::TooLarge, message));
    }
    let payload = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    if payload.iter().all(u8::is_ascii_whitespace) {
        return Err((RejectionClass::EmptyValue, "value is empty".to_owned()));
    }
    Ok(payload)
}

fn same(one: Cell, other: Cell, texts: &Texts<'_>) -> bool {
    match (one, other) {
        (Cell::Text(place, span), Cell::Text(other_place, other_span)) => {
            texts.get(place, span) == texts.get(other_place, other_span)
        }
        _ => one == other,
    }
}

fn missing() -> Problem {
    Problem::new(RejectionClass::MissingField, "is missing")
}
