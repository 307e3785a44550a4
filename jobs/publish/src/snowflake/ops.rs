//! Rows that tell people about publications, in the same transaction as the data: `OPS.RUNS`, `OPS.FRESHNESS`,
//! `OPS.QUARANTINE_SUMMARY`. All three are insert-only, hence no lock between targets; what is current is a view's business.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use futures::TryStreamExt;
use tidemill_lake::{Lake, TableId};

use super::names::OPS;
use super::sql::LedgerEntry;
use super::statement::Statement;

/// What one transaction cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// From the first COPY's start to the last one's end.
    pub(super) copy_ms: u64,
    /// From the first head's move to the last count.
    pub(super) apply_ms: u64,
}

/// The quarantine of the lake at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Quarantine {
    version: u64,
    table_id: String,
    /// Source and class -> records.
    records: BTreeMap<(String, String), u64>,
}

/// Counts what lies in quarantine; `None` when there is none. Reads two columns of a table that is small unless something is very
/// wrong.
pub(super) async fn quarantine(lake: &Lake) -> tidemill_lake::Result<Option<Quarantine>> {
    let Some(table) = lake.open(&TableId::quarantine()).await? else { return Ok(None) };
    let mut found =
        Quarantine { version: table.version().0, table_id: table.table_id().to_owned(), records: BTreeMap::new() };
    let columns = vec!["source".to_owned(), "class".to_owned()];
    let mut batches = table.read_files(table.files(), Some(columns));
    while let Some(batch) = batches.try_next().await? {
        let (sources, classes) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        for (source, class) in sources.iter().zip(classes) {
            let place = (source.unwrap_or_default().to_owned(), class.unwrap_or_default().to_owned());
            *found.records.entry(place).or_default() += 1;
        }
    }
    Ok((!found.records.is_empty()).then_some(found))
}

/// The three tables.
pub(super) fn tables(database: &str) -> [String; 3] {
    [
        format!(
            "CREATE TABLE IF NOT EXISTS {database}.{OPS}.RUNS (RUN_ID VARCHAR, TARGETS NUMBER(38,0), FILES NUMBER(38,0), \
             ROWS_STAGED NUMBER(38,0), ROWS_INSERTED NUMBER(38,0), ROWS_UPDATED NUMBER(38,0), ROWS_DELETED NUMBER(38,0), \
             COPY_MS NUMBER(38,0), APPLY_MS NUMBER(38,0), WAREHOUSE VARCHAR, COMMITTED_AT TIMESTAMP_NTZ)"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {database}.{OPS}.FRESHNESS (TARGET_TABLE VARCHAR, SEQ NUMBER(38,0), RUN_ID VARCHAR, \
             TO_VERSION NUMBER(38,0), WATERMARK TIMESTAMP_NTZ, ROWS_AFTER NUMBER(38,0), PUBLISHED_AT TIMESTAMP_NTZ)"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {database}.{OPS}.QUARANTINE_SUMMARY (TABLE_ID VARCHAR, VERSION NUMBER(38,0), RUN_ID VARCHAR, \
             SOURCE VARCHAR, CLASS VARCHAR, RECORDS NUMBER(38,0), SEEN_AT TIMESTAMP_NTZ)"
        ),
    ]
}

/// One row per transaction.
pub(super) fn run(database: &str, run_id: &str, warehouse: &str, entries: &[LedgerEntry], cost: Cost) -> Statement {
    let sum = |number: fn(&LedgerEntry) -> u64| entries.iter().map(number).sum::<u64>();
    let text = "CAST(? AS VARCHAR)";
    Statement::write(
        "runs",
        format!(
            "INSERT INTO {database}.{OPS}.RUNS (RUN_ID, TARGETS, FILES, ROWS_STAGED, ROWS_INSERTED, ROWS_UPDATED, ROWS_DELETED, COPY_MS, \
             APPLY_MS, WAREHOUSE, COMMITTED_AT) SELECT {text}, {}, {}, {}, {}, {}, {}, {}, {}, {text}, SYSDATE()",
            entries.len(),
            sum(|entry| entry.files as u64),
            sum(|entry| entry.staged),
            sum(|entry| entry.inserted),
            sum(|entry| entry.updated),
            sum(|entry| entry.deleted),
            cost.copy_ms,
            cost.apply_ms,
        ),
    )
    .bind([run_id, warehouse])
}

/// One row per target.
pub(super) fn freshness(database: &str, run_id: &str, entries: &[LedgerEntry]) -> Statement {
    let text = "CAST(? AS VARCHAR)";
    let rows: Vec<_> = entries
        .iter()
        .map(|entry| {
            let watermark = entry.watermark.as_ref().map_or("NULL".to_owned(), |at| format!("'{at}'::TIMESTAMP_NTZ"));
            format!("SELECT {text}, {}, {text}, {}, {watermark}, {}, SYSDATE()", entry.seq, entry.to, entry.rows_after)
        })
        .collect();
    Statement::write(
        "freshness",
        format!(
            "INSERT INTO {database}.{OPS}.FRESHNESS (TARGET_TABLE, SEQ, RUN_ID, TO_VERSION, WATERMARK, ROWS_AFTER, PUBLISHED_AT) {}",
            rows.join(" UNION ALL ")
        ),
    )
    .bind(entries.iter().flat_map(|entry| [entry.label.as_str(), run_id]))
}

/// One row per source and class, once per version of the quarantine.
pub(super) fn quarantine_summary(database: &str, run_id: &str, found: &Quarantine) -> Statement {
    let text = "CAST(? AS VARCHAR)";
    let rows: Vec<_> = found
        .records
        .values()
        .map(|records| format!("SELECT {text} AS SOURCE, {text} AS CLASS, {records} AS RECORDS"))
        .collect();
    let table = format!("{database}.{OPS}.QUARANTINE_SUMMARY");
    let places = found.records.keys().flat_map(|(source, class)| [source.as_str(), class.as_str()]);
    Statement::write(
        "quarantine",
        format!(
            "INSERT INTO {table} (TABLE_ID, VERSION, RUN_ID, SOURCE, CLASS, RECORDS, SEEN_AT) SELECT {text}, {version}, {text}, s.SOURCE, \
             s.CLASS, s.RECORDS, SYSDATE() FROM ({rows}) s WHERE NOT EXISTS (SELECT 1 FROM {table} q WHERE q.VERSION = {version} AND \
             q.TABLE_ID = {text})",
            version = found.version,
            rows = rows.join(" UNION ALL "),
        ),
    )
    .bind([found.table_id.as_str(), run_id].into_iter().chain(places).chain([found.table_id.as_str()]))
}
