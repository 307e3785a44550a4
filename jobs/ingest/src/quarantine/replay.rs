//! Brings entries back onto the road, by today's contract.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use bytes::Bytes;
use futures::TryStreamExt;
use serde_json::Value;
use tidemill_lake::metadata::{Act, CommitNote, IngestNote};
use tidemill_lake::{CommitRequest, Lake, PartitionedBatch, ops};
use tidemill_project::SourceName;
use tidemill_project::config::Settings;
use tidemill_project::contract::Contract;
use tokio_util::sync::CancellationToken;

use super::read::{Filter, list, of_filter};
use super::store::{Entry, Place};
use crate::batch::{Batch, Origin, OriginKey};
use crate::commit::{Committer, RunContext};
use crate::deadline::Deadline;
use crate::decode::{Decoder, Headers, Record};
use crate::error::Cause;
use crate::registry::Schemas;
use crate::request::NoObserver;
use crate::retry::{Retry, Tried};
use crate::run::open_committer;
use crate::source::kafka::TopicRules;
use crate::{Error, Result};

/// Entries that are decoded and landed at once.
const BATCH: usize = 10_000;

/// What a replay is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// The entries.
    pub filter: Filter,
    /// A JSON merge patch (RFC 7386) for every payload, before it is decoded.
    pub patch: Option<Value>,
    /// Says what would happen and changes nothing.
    pub is_dry_run: bool,
    /// Goes into the commits.
    pub run_id: String,
}

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// Its row is in the raw table.
    Landed,
    /// The raw table has a row of its key already.
    Duplicate,
    /// The contract still refuses it, or the patch does not apply; it stays open.
    Refused {
        /// Class (X9).
        class: String,
        /// What is wrong.
        message: String,
    },
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Id and outcome of each entry, in the order of the quarantine.
    pub entries: Vec<(String, ReplayOutcome)>,
}

impl ReplayReport {
    /// Entries with an outcome like `wanted`.
    #[must_use]
    pub fn count(&self, wanted: impl Fn(&ReplayOutcome) -> bool) -> usize {
        self.entries.iter().filter(|(_, outcome)| wanted(outcome)).count()
    }
}

/// Replays entries. Those that were replayed before are left alone unless the filter names one by its id; replaying twice is
/// harmless in any case.
///
/// # Errors
/// Of kind `Invalid` when no contract has an entry's source, or when the filter names an id that does not exist.
pub async fn replay(
    settings: &Settings,
    lake: &Lake,
    contracts: &[Contract],
    request: &Replay,
    cancel: &CancellationToken,
) -> Result<ReplayReport> {
    let filter = Filter { is_open: request.filter.id.is_none(), ..request.filter.clone() };
    let listed = list(lake, &filter).await?;
    if let (Some(id), true) = (&filter.id, listed.is_empty()) {
        return Err(Cause::NoEntry { id: id.clone() }.into());
    }
    let mut report = ReplayReport::default();
    let mut by_source: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in listed {
        by_source.entry(entry.entry.source.clone()).or_default().push(entry.entry);
    }
    for (source, entries) in by_source {
        let Some(contract) = contracts.iter().find(|contract| contract.name.to_string() == source) else {
            let id = entries.first().map(|entry| entry.place.id()).unwrap_or_default();
            return Err(Cause::NoContract { id, source_name: source }.into());
        };
        let clock = lake.clock().clone();
        let run = RunContext {
            run_id: request.run_id.clone(),
            clock: clock.clone(),
            as_of_us: None,
            observer: Arc::new(NoObserver),
            retry: Retry { deadline: Deadline::new(&clock, None), clock, cancel: cancel.clone() },
        };
        let mut committer =
            open_committer(lake, contract, run.clone(), settings.ingest.memory_budget_bytes / 2).await?;
        let schemas = Schemas::new(settings, contract, run.retry.clone())?;
        for entries in entries.chunks(BATCH) {
            let outcomes = replay_batch(&mut committer, contract, schemas.as_ref(), entries, request).await?;
            if !request.is_dry_run {
                note_outcomes(lake, contract, &run, entries, &outcomes).await?;
            }
            report.entries.extend(entries.iter().map(|entry| entry.place.id()).zip(outcomes));
        }
    }
    Ok(report)
}

async fn replay_batch(
    committer: &mut Committer,
    contract: &Contract,
    schemas: Option<&Schemas>,
    entries: &[Entry],
    request: &Replay,
) -> Result<Vec<ReplayOutcome>> {
    let contract_error = |source| Cause::Contract { source_name: contract.name.clone(), source };
    let mut decoder = Decoder::new(contract).map_err(contract_error)?;
    let rules = TopicRules::new(&contract.name, &contract.topics)?;
    decoder.begin(entries.len());
    if let Some(schemas) = schemas {
        schemas.teach(&mut decoder, entries.iter().filter_map(|entry| entry.payload.as_deref())).await?;
    }
    for entry in entries {
        let payload = patched(entry, request.patch.as_ref());
        let headers = EntryHeaders(&entry.headers);
        let (topic, partition, offset) = match &entry.place {
            Place::Kafka { topic, partition, offset } => (Some(topic.as_str()), Some(*partition), Some(*offset)),
            Place::File { .. } => (None, None, None),
        };
        let place = format!("file/{}", entry.place.id());
        decoder.push(&Record {
            // A tombstone is never quarantined, so every entry has a value.
            payload: Some(payload.as_deref().unwrap_or_default()),
            headers: &headers,
            topic,
            topic_rule: topic.and_then(|topic| rules.rule_of(topic)),
            partition,
            offset,
            place_in_file: topic.is_none().then_some(place.as_str()),
            timestamp_us: entry.timestamp_us,
            clock_us: committer.clock_us(),
        });
    }
    let decoded = decoder.finish().map_err(contract_error)?;
    let mut outcomes = vec![ReplayOutcome::Duplicate; entries.len()];
    for rejection in &decoded.rejections {
        outcomes[rejection.record] =
            ReplayOutcome::Refused { class: rejection.class.as_str().to_owned(), message: rejection.message.clone() };
    }
    let records: Vec<usize> = decoded.rows.iter().map(|row| row.record).collect();
    if records.is_empty() {
        return Ok(outcomes);
    }
    let num_records = records.len() as u64;
    let origin = Origin {
        key: OriginKey::Replay,
        from: 0,
        to: 0,
        records: num_records,
        tombstones: 0,
        skipped: 0,
        gap: 0,
        last: None,
    };
    let batch = Batch {
        origin_of: vec![0; entries.len()],
        decoded,
        origins: vec![origin],
        refused: Vec::new(),
        drained: Vec::new(),
        num_bytes: 0,
        opened: committer.clock().stopwatch(),
    };
    let landing = if request.is_dry_run {
        committer.preview(&batch).await?
    } else {
        Box::pin(committer.commit(batch)).await?.landing
    };
    for row in landing.iter() {
        outcomes[records[row as usize]] = ReplayOutcome::Landed;
    }
    Ok(outcomes)
}

/// The payload, with the patch merged in. One that is no JSON stays as it is and is refused as before.
fn patched(entry: &Entry, patch: Option<&Value>) -> Option<Bytes> {
    let payload = entry.payload.clone()?;
    let Some(patch) = patch else { return Some(payload) };
    match serde_json::from_slice::<Value>(&payload) {
        Ok(mut value) => {
            merge(&mut value, patch);
            Some(Bytes::from(value.to_string()))
        }
        Err(_) => Some(payload),
    }
}

/// RFC 7386, section 2.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

struct EntryHeaders<'a>(&'a [(String, Option<Bytes>)]);

impl Headers for EntryHeaders<'_> {
    fn last(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(header, _)| header == name).and_then(|(_, value)| value.as_deref())
    }
}

/// Notes which entries are done. A second note of the same entry says the same.
async fn note_outcomes(
    lake: &Lake,
    contract: &Contract,
    run: &RunContext,
    entries: &[Entry],
    outcomes: &[ReplayOutcome],
) -> Result<()> {
    let done: Vec<(String, &'static str)> = entries
        .iter()
        .zip(outcomes)
        .filter_map(|(entry, outcome)| match outcome {
            ReplayOutcome::Landed => Some((entry.place.id(), "landed")),
            ReplayOutcome::Duplicate => Some((entry.place.id(), "duplicate")),
            ReplayOutcome::Refused { .. } => None,
        })
        .collect();
    if done.is_empty() {
        return Ok(());
    }
    let now_us = run.clock.now_us();
    let date = chrono::DateTime::from_timestamp_micros(now_us).unwrap_or_default().date_naive();
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(done.iter().map(|(id, _)| id))),
        Arc::new(StringArray::from_iter_values(done.iter().map(|_| contract.name.to_string()))),
        Arc::new(StringArray::from_iter_values(done.iter().map(|(_, outcome)| outcome))),
        Arc::new(TimestampMicrosecondArray::from_value(now_us, done.len()).with_timezone("UTC")),
    ];
    let batch = RecordBatch::try_new(ops::quarantine_replays().file_schema(), columns)
        .map_err(|source| Cause::Shape { source_name: contract.name.clone(), source })?;
    let rows = vec![PartitionedBatch {
        partition_values: BTreeMap::from([("replayed_date".to_owned(), Some(date.to_string()))]),
        batches: vec![batch],
        tags: BTreeMap::new(),
    }];
    let spec = ops::quarantine_replays();
    let open = || lake.open_or_create(&spec, &run.run_id);
    let mut table = run.retry.insist(&contract.name, "open the replays", open).await?;
    let add = run.retry.insist(&contract.name, "note replays", || table.write_files(rows.clone())).await?;
    loop {
        let note = CommitNote {
            commit_id: run.clock.new_id(),
            run_id: run.run_id.clone(),
            act: Act::Ingest(IngestNote { source: contract.name.to_string(), ..IngestNote::default() }),
        };
        let request = CommitRequest {
            add: add.clone(),
            remove: Vec::new(),
            txns: BTreeMap::new(),
            operation: "WRITE",
            data_change: true,
            note,
        };
        if let Tried::Won { .. } = run.retry.commit(&contract.name, &mut table, request).await? {
            return Ok(());
        }
    }
}

/// The last outcome of every entry that was replayed, by source and id.
pub(super) async fn read_replays(
    lake: &Lake,
    filter: &Filter,
) -> Result<HashMap<(String, String), ReplayOutcome>, Error> {
    let name: SourceName = of_filter(filter);
    let lake_error = |source| Cause::Lake { act: "read the replays", source_name: name.clone(), source };
    let Some(table) = lake.open(&ops::quarantine_replays().id).await.map_err(lake_error)? else {
        return Ok(HashMap::new());
    };
    let columns = ["id", "source", "outcome"].map(str::to_owned).to_vec();
    let mut rows = table.read_files(table.files(), Some(columns));
    let mut replays = HashMap::new();
    while let Some(batch) = rows.try_next().await.map_err(lake_error)? {
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>()).cloned();
        let (Some(id), Some(source), Some(outcome)) = (text("id"), text("source"), text("outcome")) else {
            return Err(Cause::EntryShape { difference: "replays have other columns".to_owned() }.into());
        };
        for row in 0..id.len() {
            let key = (source.value(row).to_owned(), id.value(row).to_owned());
            let landed = outcome.value(row) == "landed";
            // An entry that landed once has landed, whatever a later replay found.
            if landed || !replays.contains_key(&key) {
                let outcome = if landed { ReplayOutcome::Landed } else { ReplayOutcome::Duplicate };
                replays.insert(key, outcome);
            }
        }
    }
    Ok(replays)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The examples of RFC 7386, appendix A.
    #[test]
    fn a_merge_patch_does_what_the_rfc_says() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (mut target, patch, expected) in cases {
            merge(&mut target, &patch);
            assert_eq!(target, expected);
        }
    }
}
