//! The road from a record to a raw table, with topics in memory: for stories that tests tell.
//!
//! Everything but the consumer is what runs in production: decoding by the contract, deduplication, quarantine, books, the
//! watermark, and progress that lives in the table alone. A rehearsal that is cut short is begun again from where the lake
//! stands, as a restarted process would.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use tidemill_lake::Lake;
use tidemill_project::clock::Micros;
use tidemill_project::config::IngestSettings;
use tidemill_project::contract::{Contract, Format};
use tidemill_project::{Offset, TopicPartition};
use tokio_util::sync::CancellationToken;

use crate::batch::Batcher;
use crate::commit::RunContext;
use crate::deadline::Deadline;
use crate::decode::{Decoder, Headers, Record};
use crate::error::Cause;
use crate::request::{IngestReport, NoObserver};
use crate::retry::Retry;
use crate::run::{limits_of, open_committer};
use crate::source::chunk::Chunk;
use crate::source::kafka::TopicRules;
use crate::source::{Positioned, Slot};
use crate::{Result, SourceReport};

/// Bytes for fingerprints of keys; stories are short.
const DEDUP_BUDGET_BYTES: usize = 8 << 20;

/// A record as somebody sends it.
#[derive(Clone, Debug, Default)]
pub struct SentRecord {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// Names and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The record's timestamp, microseconds UTC; unless given, the time of the event that it carries, to the millisecond.
    pub at_us: Option<Micros>,
}

/// Topics in memory and the contracts that read them.
#[derive(Debug)]
pub struct Rehearsal {
    contracts: Vec<(Contract, TopicRules)>,
    log: BTreeMap<TopicPartition, Vec<SentRecord>>,
}

impl Rehearsal {
    /// Topics that hold nothing yet.
    ///
    /// # Errors
    /// A topic pattern that is no regular expression.
    pub fn new(contracts: Vec<Contract>) -> Result<Self> {
        let contracts = contracts
            .into_iter()
            .map(|mut contract| {
                // Stories are told in JSON, whatever the real topics hold.
                contract.format = Format::Json;
                let rules = TopicRules::new(&contract.name, &contract.topics)?;
                Ok((contract, rules))
            })
            .collect::<Result<_>>()?;
        Ok(Self { contracts, log: BTreeMap::new() })
    }

    /// Appends a record to its partition. Returns whether any contract reads the topic.
    pub fn send(&mut self, record: SentRecord) -> bool {
        let is_read = self.contracts.iter().any(|(_, rules)| rules.rule_of(&record.topic).is_some());
        let partition = TopicPartition::new(record.topic.clone(), record.partition);
        self.log.entry(partition).or_default().push(record);
        is_read
    }

    /// Brings what stands in the topics beyond the lake's progress into the lake, one commit a source; `as_of_us` is the clock
    /// of the watermark and of records without a time.
    ///
    /// # Errors
    /// The lake, and contracts that cannot be compiled.
    pub async fn ingest(&self, lake: &Lake, as_of_us: Micros, run_id: &str) -> Result<IngestReport> {
        let mut report = IngestReport::default();
        for (contract, rules) in &self.contracts {
            let read: Vec<(&TopicPartition, &Vec<SentRecord>)> =
                self.log.iter().filter(|(partition, _)| rules.rule_of(&partition.topic.0).is_some()).collect();
            // A source that nobody has sent anything to is not begun, as one whose topics do not exist.
            if !read.is_empty() {
                let landed = Box::pin(read_source(lake, contract, rules, &read, as_of_us, run_id));
                report.sources.push(landed.await?);
            }
        }
        Ok(report)
    }
}

async fn read_source(
    lake: &Lake,
    contract: &Contract,
    rules: &TopicRules,
    read: &[(&TopicPartition, &Vec<SentRecord>)],
    as_of_us: Micros,
    run_id: &str,
) -> Result<SourceReport> {
    let clock = lake.clock().clone();
    let run = RunContext {
        run_id: run_id.to_owned(),
        clock: clock.clone(),
        as_of_us: Some(as_of_us),
        observer: Arc::new(NoObserver),
        retry: Retry { deadline: Deadline::new(&clock, None), clock: clock.clone(), cancel: CancellationToken::new() },
    };
    let mut committer = open_committer(lake, contract, run, DEDUP_BUDGET_BYTES).await?;
    let settings = IngestSettings::default();
    let limits = limits_of(&settings, settings.memory_budget_bytes);
    let mut batcher = Batcher::new(contract, limits, clock, false, None)?;
    let partitions: Vec<TopicPartition> = read.iter().map(|(partition, _)| (*partition).clone()).collect();
    let lake_offsets = committer.lake_offsets(&partitions).await?;
    let mut times = EventTimes::new(contract, rules)?;
    let mut chunk = Chunk::default();
    for (index, (partition, records)) in read.iter().enumerate() {
        let slot = Slot::try_from(index).unwrap_or(Slot::MAX);
        let base = lake_offsets.get(*partition).and_then(|found| found.next);
        let from = base.unwrap_or(Offset(0));
        let positioned =
            Positioned { slot, partition: (*partition).clone(), base, from, start: from, restarted: false };
        batcher.begin(&positioned);
        committer.begin(positioned);
        let next = usize::try_from(from.0).unwrap_or(0);
        for (offset, record) in records.iter().enumerate().skip(next) {
            let at_us = record.at_us.or_else(|| times.of(record)).unwrap_or(as_of_us);
            let headers = record.headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_slice())));
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            chunk.push(slot, offset, Some(at_us), record.value.as_deref(), record.key.as_deref(), headers);
        }
    }
    batcher.take(&chunk);
    for (index, (_, records)) in read.iter().enumerate() {
        let end = Offset(i64::try_from(records.len()).unwrap_or(i64::MAX));
        batcher.drain(Slot::try_from(index).unwrap_or(Slot::MAX), end, as_of_us);
    }
    committer.set_partitions(partitions);
    if let Some(batch) = batcher.close()? {
        Box::pin(committer.commit(batch)).await?;
    }
    committer.commit_watermark(true).await?;
    Ok(committer.finish().await)
}

/// Headers of a record that is told; a key may stand in one.
struct SentHeaders<'a>(&'a [(String, Vec<u8>)]);

impl Headers for SentHeaders<'_> {
    fn last(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(header, _)| header == name).map(|(_, value)| value.as_slice())
    }
}

/// Reads event times by the contract itself.
struct EventTimes<'a> {
    decoder: Decoder,
    rules: &'a TopicRules,
}

impl<'a> EventTimes<'a> {
    fn new(contract: &Contract, rules: &'a TopicRules) -> Result<Self> {
        let decoder =
            Decoder::new(contract).map_err(|source| Cause::Contract { source_name: contract.name.clone(), source })?;
        Ok(Self { decoder, rules })
    }

    /// The event's time to the millisecond, as producers stamp records; `None` when the record cannot land.
    fn of(&mut self, record: &SentRecord) -> Option<Micros> {
        self.decoder.begin(1);
        self.decoder.push(&Record {
            payload: record.value.as_deref(),
            headers: &SentHeaders(&record.headers),
            topic: Some(&record.topic),
            topic_rule: self.rules.rule_of(&record.topic),
            partition: Some(record.partition),
            offset: Some(0),
            place_in_file: None,
            timestamp_us: None,
            // Far ahead: whether the time is plausible is judged when the record is read.
            clock_us: Micros::MAX / 4,
        });
        let decoded = self.decoder.finish().ok()?;
        let at = decoded.batch.column_by_name("event_at")?.as_primitive_opt::<TimestampMicrosecondType>()?;
        (decoded.batch.num_rows() == 1).then(|| at.value(0).div_euclid(1000) * 1000)
    }
}
