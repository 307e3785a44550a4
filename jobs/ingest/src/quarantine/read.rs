//! Finds entries.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use futures::TryStreamExt;
use tidemill_lake::{Lake, Table, TableId};
use tidemill_project::SourceName;
use tidemill_project::clock::Micros;

use super::replay::{ReplayOutcome, read_replays};
use super::store::{Entry, Place, headers_from_text};
use crate::error::Cause;
use crate::{Error, Result};

/// Which entries are meant. Every field narrows; the default means all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// One entry by its id. Entries of two sources may share one when both read the same topic.
    pub id: Option<String>,
    /// Of one source.
    pub source: Option<SourceName>,
    /// Of one class, e.g. `wrong_type`.
    pub class: Option<String>,
    /// From one topic.
    pub topic: Option<String>,
    /// Put here at or after this instant, microseconds UTC.
    pub since_us: Option<Micros>,
    /// Put here before this instant, microseconds UTC.
    pub until_us: Option<Micros>,
    /// Not replayed yet.
    pub is_open: bool,
    /// At most this many, the oldest first.
    pub limit: Option<usize>,
}

/// An entry and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEntry {
    /// The entry.
    pub entry: Entry,
    /// What its last successful replay did; `None` as long as there was none.
    pub replayed: Option<ReplayOutcome>,
}

/// Lists entries, the oldest first. Reads the whole rows of the dates that the filter leaves over.
///
/// # Errors
/// When the lake cannot be read. A lake without quarantine has no entries.
pub async fn list(lake: &Lake, filter: &Filter) -> Result<Vec<ListedEntry>> {
    let id = TableId::quarantine();
    let lake_error = |source| Cause::Lake { act: "read the quarantine", source_name: of_filter(filter), source };
    let Some(table) = lake.open(&id).await.map_err(lake_error)? else { return Ok(Vec::new()) };
    let mut rows = table.read_files(files_of(&table, filter), None);
    let mut entries: HashMap<(String, String), Entry> = HashMap::new();
    while let Some(batch) = rows.try_next().await.map_err(lake_error)? {
        for entry in entries_of(&batch)? {
            if matches(filter, &entry) {
                entries.entry((entry.source.clone(), entry.place.id())).or_insert(entry);
            }
        }
    }
    let replays = read_replays(lake, filter).await?;
    let mut listed: Vec<ListedEntry> = entries
        .into_iter()
        .map(|(key, entry)| ListedEntry { replayed: replays.get(&key).cloned(), entry })
        .filter(|listed| !filter.is_open || listed.replayed.is_none())
        .collect();
    listed.sort_by(|one, other| order(&one.entry).cmp(&order(&other.entry)));
    listed.truncate(filter.limit.unwrap_or(usize::MAX));
    Ok(listed)
}

/// Shows one entry.
///
/// # Errors
/// Of kind `Invalid` (TM0407) when there is none with this id.
pub async fn show(lake: &Lake, id: &str) -> Result<ListedEntry> {
    let filter = Filter { id: Some(id.to_owned()), ..Filter::default() };
    list(lake, &filter).await?.into_iter().next().ok_or_else(|| Cause::NoEntry { id: id.to_owned() }.into())
}

/// The source that an error of the whole quarantine names.
pub(super) fn of_filter(filter: &Filter) -> SourceName {
    filter.source.clone().unwrap_or_else(|| SourceName::new("ops", "quarantine"))
}

/// Old to new, and inside a batch by partition and offset.
fn order(entry: &Entry) -> (Micros, String, &str, i64) {
    match &entry.place {
        Place::Kafka { topic, partition, offset } => {
            (entry.quarantined_at_us, format!("{topic}/{partition:010}"), entry.source.as_str(), *offset)
        }
        Place::File { content, record, .. } => {
            (entry.quarantined_at_us, content.clone(), entry.source.as_str(), *record)
        }
    }
}

fn files_of(table: &Table, filter: &Filter) -> Vec<tidemill_lake::DataFile> {
    let date = |us: Micros| chrono::DateTime::from_timestamp_micros(us).map(|at| at.date_naive().to_string());
    let (since, until) = (filter.since_us.and_then(date), filter.until_us.and_then(date));
    let is_wanted = |file: &tidemill_lake::DataFile| {
        let Some(Some(day)) = file.partition_values.get("quarantined_date") else { return true };
        since.as_ref().is_none_or(|since| day >= since) && until.as_ref().is_none_or(|until| day <= until)
    };
    table.files().into_iter().filter(is_wanted).collect()
}

fn matches(filter: &Filter, entry: &Entry) -> bool {
    let topic = match &entry.place {
        Place::Kafka { topic, .. } => Some(topic),
        Place::File { .. } => None,
    };
    filter.id.as_ref().is_none_or(|id| *id == entry.place.id())
        && filter.source.as_ref().is_none_or(|source| source.to_string() == entry.source)
        && filter.class.as_ref().is_none_or(|class| *class == entry.class)
        && filter.topic.as_ref().is_none_or(|wanted| Some(wanted) == topic)
        && filter.since_us.is_none_or(|since| entry.quarantined_at_us >= since)
        && filter.until_us.is_none_or(|until| entry.quarantined_at_us < until)
}

fn entries_of(batch: &RecordBatch) -> Result<Vec<Entry>> {
    let column = |name: &'static str| {
        let missing = || Error::from(Cause::EntryShape { difference: format!("column=`{name}` is missing") });
        batch.column_by_name(name).ok_or_else(missing)
    };
    let wrong = |name: &'static str| move || Error::from(Cause::EntryShape { difference: format!("column=`{name}`") });
    let text = |name| column(name)?.as_string_opt::<i32>().ok_or_else(wrong(name));
    let bytes = |name| column(name)?.as_binary_opt::<i32>().ok_or_else(wrong(name));
    let number = |name| column(name)?.as_primitive_opt::<Int64Type>().ok_or_else(wrong(name));
    let instant = |name| column(name)?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong(name));
    let (id, source, class, message) = (text("id")?, text("source")?, text("class")?, text("message")?);
    let (payload, key, headers) = (bytes("payload")?, bytes("key")?, text("headers")?);
    let (topic, path) = (text("topic")?, text("path")?);
    let partition = column("partition")?.as_primitive_opt::<Int32Type>().ok_or_else(wrong("partition"))?;
    let (offset, record) = (number("offset")?, number("record")?);
    let (timestamp, quarantined_at) = (instant("_timestamp")?, instant("quarantined_at")?);
    let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let entry = |row: usize| {
        let place = if topic.is_valid(row) {
            Place::Kafka {
                topic: topic.value(row).to_owned(),
                partition: partition.value(row),
                offset: offset.value(row),
            }
        } else {
            let content = id.value(row).split('/').next().unwrap_or_default().to_owned();
            Place::File { path: path.value(row).to_owned(), content, record: record.value(row) }
        };
        let headers = headers.is_valid(row).then(|| headers_from_text(headers.value(row))).flatten();
        Entry {
            source: source.value(row).to_owned(),
            place,
            class: class.value(row).to_owned(),
            message: message.value(row).to_owned(),
            payload: payload.is_valid(row).then(|| copy(payload.value(row))),
            key: key.is_valid(row).then(|| copy(key.value(row))),
            headers: headers.unwrap_or_default(),
            timestamp_us: timestamp.is_valid(row).then(|| timestamp.value(row)),
            quarantined_at_us: quarantined_at.value(row),
        }
    };
    Ok((0..batch.num_rows()).map(entry).collect())
}
