//! The statements of one cycle, as pure functions. What each one is for and what a crash behind it leaves is in SNOWFLAKE.md.

use std::fmt::Write as _;

use super::load::Load;
use super::names::{BATCH_COLUMN, Names, SEQ_COLUMN, ledger, quoted};
use super::statement::{Effect, Repeat, Statement};

/// Columns of a staging table beside the target's.
pub(super) const OP: &str = "_OP";
pub(super) const ORDER: &str = "_ORDER";
pub(super) const BATCH: &str = "_BATCH";

/// Least and greatest value of a date column of the key among the staged rows, as SQL literals without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub(super) column: usize,
    pub(super) least: String,
    pub(super) greatest: String,
}

/// Asks where to upload `file`. The leading blank keeps the crate's own upload away from it.
pub(super) fn put(file: &str, directory: &str) -> Statement {
    Statement::idempotent("put", format!(" PUT file:///tidemill/{file} {directory} AUTO_COMPRESS=FALSE OVERWRITE=TRUE"))
}

/// Step 3: makes `owner` the owner of the head.
pub(super) fn take(names: &Names, owner: &str) -> Statement {
    Statement::write(
        "take",
        format!(
            "UPDATE {} SET EPOCH = EPOCH + 1, OWNER = CAST(? AS VARCHAR), UPDATED_AT = SYSDATE() WHERE TARGET_TABLE = CAST(? AS VARCHAR)",
            names.head()
        ),
    )
    .bind([owner, names.label.as_str()])
}

/// All heads in one answer: label, epoch, owner, seq, position, content hash.
pub(super) fn heads(targets: &[&Names]) -> Statement {
    let selects: Vec<_> = targets
        .iter()
        .map(|names| {
            let head = names.head();
            format!("SELECT TARGET_TABLE, EPOCH::VARCHAR, OWNER, SEQ::VARCHAR, POSITION, CONTENT_HASH FROM {head}")
        })
        .collect();
    Statement::idempotent("heads", selects.join(" UNION ALL "))
}

/// What the targets hold: label, rows, greatest sequence.
pub(super) fn counts(step: &'static str, targets: &[&Names]) -> Statement {
    let selects: Vec<_> = targets
        .iter()
        .map(|names| {
            format!(
                "SELECT CAST(? AS VARCHAR), COUNT(*)::VARCHAR, MAX({})::VARCHAR FROM {}",
                quoted(SEQ_COLUMN),
                names.table
            )
        })
        .collect();
    Statement::idempotent(step, selects.join(" UNION ALL ")).bind(targets.iter().map(|names| names.label.as_str()))
}

/// The newest ledger row of each target: label, seq, rows and greatest sequence after it.
pub(super) fn last_entries(database: &str, targets: &[&Names]) -> Statement {
    let marks = vec!["CAST(? AS VARCHAR)"; targets.len()].join(", ");
    Statement::idempotent(
        "state",
        format!(
            "SELECT TARGET_TABLE, SEQ::VARCHAR, ROWS_AFTER::VARCHAR, MAX_SEQ_AFTER::VARCHAR FROM {} WHERE TARGET_TABLE IN ({marks}) \
             QUALIFY ROW_NUMBER() OVER (PARTITION BY TARGET_TABLE ORDER BY SEQ DESC) = 1",
            ledger(database)
        ),
    )
    .bind(targets.iter().map(|names| names.label.as_str()))
}

/// Step 4: the staging table of this owner, empty.
pub(super) fn create_staging(load: &Load, staging: &str) -> [Statement; 2] {
    let mut columns: Vec<_> =
        load.columns.iter().map(|column| format!("{} {}", column.staged, column.column_type.staging_sql)).collect();
    columns.extend([format!("{OP} VARCHAR"), format!("{ORDER} NUMBER(38,0)"), format!("{BATCH} VARCHAR")]);
    [
        Statement::write(
            "create_staging",
            format!("CREATE TRANSIENT TABLE IF NOT EXISTS {staging} ({})", columns.join(", ")),
        ),
        Statement::write("truncate_staging", format!("TRUNCATE TABLE {staging}")),
    ]
}

/// Step 4: one COPY over the whole directory.
pub(super) fn copy(staging: &str, directory: &str) -> Statement {
    Statement::write(
        "copy",
        format!(
            "COPY INTO {staging} FROM {directory} FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE) \
             MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE ON_ERROR = ABORT_STATEMENT FORCE = TRUE"
        ),
    )
}

/// Step 5: clears a transaction that somebody forgot.
pub(super) fn rollback() -> Statement {
    Statement { effect: Effect::End, ..Statement::idempotent("rollback", "ROLLBACK") }
}

/// Step 5.
pub(super) fn begin() -> Statement {
    Statement { effect: Effect::Begin, ..Statement::write("begin", "BEGIN TRANSACTION") }
}

/// Step 10.
pub(super) fn commit() -> Statement {
    Statement { effect: Effect::End, repeat: Repeat::Never, ..Statement::write("commit", "COMMIT") }
}

/// Step 6: the compare-and-swap. Sets `UPDATED_AT` too, because the emulator sees conflicts per column.
pub(super) fn move_head(load: &Load, owner: &str, position: &str, content_hash: &str) -> Statement {
    Statement::write(
        "head",
        format!(
            "UPDATE {} SET SEQ = {}, POSITION = CAST(? AS VARCHAR), CONTENT_HASH = CAST(? AS VARCHAR), UPDATED_AT = SYSDATE() WHERE \
             TARGET_TABLE = CAST(? AS VARCHAR) AND OWNER = CAST(? AS VARCHAR) AND SEQ = {}",
            load.names.head(),
            load.seq,
            load.seq - 1
        ),
    )
    .bind([position, content_hash, load.names.label.as_str(), owner])
}

/// Step 7: rows staged, and how many of them have a null in the key.
pub(super) fn staged(load: &Load, staging: &str) -> Statement {
    let nulls: Vec<_> =
        load.key.iter().map(|&key| format!("(COUNT(*) - COUNT({}))", load.columns[key].staged)).collect();
    let nulls = if nulls.is_empty() { "0".to_owned() } else { nulls.join(" + ") };
    Statement::idempotent("staged", format!("SELECT COUNT(*)::VARCHAR, ({nulls})::VARCHAR FROM {staging}"))
}

/// Step 8: the statements that bring the rows in, in order. Their answers name the rows inserted, updated, deleted.
pub(super) fn apply(load: &Load, staging: &str, ranges: &[KeyRange], batches: &[String]) -> Vec<Statement> {
    if load.replaces() {
        return replace(load, staging, batches);
    }
    if load.strategy == crate::Strategy::AppendOnly && !load.full {
        return vec![insert(load, staging)];
    }
    let mut statements = vec![merge(load, staging, ranges)];
    if load.full {
        statements.push(delete_unstaged(load, staging));
    }
    statements
}

/// The staged rows, the last of each key, with JSON parsed. Functions stand here because the emulator rejects them in SET.
fn source(load: &Load, staging: &str) -> String {
    let columns: Vec<_> = load
        .columns
        .iter()
        .map(|column| match (column.column_type.is_json, &column.staged) {
            (true, name) => format!("PARSE_JSON({name}) AS {name}"),
            (false, name) => name.clone(),
        })
        .collect();
    let keys: Vec<_> = load.key.iter().map(|&key| load.columns[key].staged.as_str()).collect();
    let last = if keys.is_empty() {
        String::new()
    } else {
        format!(" QUALIFY ROW_NUMBER() OVER (PARTITION BY {} ORDER BY {ORDER} DESC) = 1", keys.join(", "))
    };
    format!("SELECT {}, {OP}, {BATCH} FROM {staging}{last}", columns.join(", "))
}

fn key_condition(load: &Load) -> String {
    let pairs = load.key.iter().map(|&key| (&load.columns[key].target, &load.columns[key].staged));
    pairs.map(|(target, staged)| format!("t.{target} = s.{staged}")).collect::<Vec<_>>().join(" AND ")
}

fn merge(load: &Load, staging: &str, ranges: &[KeyRange]) -> Statement {
    let Load { names, seq, .. } = load;
    let seq_column = quoted(SEQ_COLUMN);
    let mut condition = key_condition(load);
    for KeyRange { column, least, greatest } in ranges {
        let _ =
            write!(condition, " AND t.{} BETWEEN '{least}'::DATE AND '{greatest}'::DATE", load.columns[*column].target);
    }
    let values: Vec<_> = (0..load.columns.len())
        .filter(|column| !load.key.contains(column))
        .map(|column| &load.columns[column])
        .collect();
    let mut sets: Vec<_> = values.iter().map(|column| format!("{} = s.{}", column.target, column.staged)).collect();
    sets.push(format!("{seq_column} = {seq}"));
    // The guard makes a repeat harmless even without head and ledger; a full comparison repairs rows whatever they carry.
    let changed = if load.full {
        let distinct: Vec<_> =
            values.iter().map(|column| format!("t.{} IS DISTINCT FROM s.{}", column.target, column.staged)).collect();
        if distinct.is_empty() { "1 = 0".to_owned() } else { format!("({})", distinct.join(" OR ")) }
    } else {
        format!("(t.{seq_column} IS NULL OR t.{seq_column} < {seq})")
    };
    let delete =
        if load.full { String::new() } else { format!(" WHEN MATCHED AND s.{OP} = 'D' AND {changed} THEN DELETE") };
    let targets: Vec<_> =
        load.columns.iter().map(|column| column.target.as_str()).chain([seq_column.as_str()]).collect();
    let staged: Vec<_> =
        load.columns.iter().map(|column| format!("s.{}", column.staged)).chain([seq.to_string()]).collect();
    Statement::write(
        "merge",
        format!(
            "MERGE INTO {} t USING ({}) s ON {condition}{delete} WHEN MATCHED AND s.{OP} = 'U' AND {changed} THEN UPDATE SET {} \
             WHEN NOT MATCHED AND s.{OP} = 'U' THEN INSERT ({}) VALUES ({})",
            names.table,
            source(load, staging),
            sets.join(", "),
            targets.join(", "),
            staged.join(", "),
        ),
    )
}

fn delete_unstaged(load: &Load, staging: &str) -> Statement {
    Statement::write(
        "delete",
        format!(
            "DELETE FROM {} t WHERE NOT EXISTS (SELECT 1 FROM {staging} s WHERE {})",
            load.names.table,
            key_condition(load)
        ),
    )
}

/// Whole batches, or the whole table, make room for what is staged.
fn replace(load: &Load, staging: &str, batches: &[String]) -> Vec<Statement> {
    let table = &load.names.table;
    let delete = if load.full {
        Statement::write("delete", format!("DELETE FROM {table}"))
    } else {
        let marks = vec!["CAST(? AS VARCHAR)"; batches.len()].join(", ");
        Statement::write("delete", format!("DELETE FROM {table} WHERE {} IN ({marks})", quoted(BATCH_COLUMN)))
            .bind(batches.iter().map(String::as_str))
    };
    vec![delete, insert(load, staging)]
}

fn insert(load: &Load, staging: &str) -> Statement {
    let mut targets: Vec<_> = load.columns.iter().map(|column| column.target.clone()).collect();
    let mut values: Vec<_> = load.columns.iter().map(|column| format!("s.{}", column.staged)).collect();
    targets.push(quoted(SEQ_COLUMN));
    values.push(load.seq.to_string());
    if load.strategy == crate::Strategy::ReplaceBatches {
        targets.push(quoted(BATCH_COLUMN));
        values.push(format!("s.{BATCH}"));
    }
    Statement::write(
        "insert",
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM ({}) s",
            load.names.table,
            targets.join(", "),
            values.join(", "),
            source(load, staging)
        ),
    )
}

/// A count with the keys of a few rows that it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) count: Statement,
    pub(super) examples: Statement,
}

/// `publish --check`: rows that the target lacks, that it has beyond the model, and that differ.
pub(super) fn differences(load: &Load, staging: &str) -> [Difference; 3] {
    let (table, source, key) = (&load.names.table, source(load, staging), key_condition(load));
    let distinct: Vec<_> =
        load.columns.iter().map(|column| format!("t.{} IS DISTINCT FROM s.{}", column.target, column.staged)).collect();
    let query = |from: String, cells: Vec<String>| Difference {
        count: Statement::idempotent("check", format!("SELECT COUNT(*)::VARCHAR FROM {from}")),
        examples: Statement::idempotent("check", format!("SELECT {} FROM {from} LIMIT 5", cells.join(", "))),
    };
    let keys = |alias: &str| -> Vec<String> {
        let columns = load.key.iter().map(|&key| &load.columns[key]);
        columns
            .map(|column| match alias {
                "s" => format!("s.{}::VARCHAR", column.staged),
                _ => format!("t.{}::VARCHAR", column.target),
            })
            .collect()
    };
    [
        query(format!("({source}) s WHERE NOT EXISTS (SELECT 1 FROM {table} t WHERE {key})"), keys("s")),
        query(format!("{table} t WHERE NOT EXISTS (SELECT 1 FROM {staging} s WHERE {key})"), keys("t")),
        query(format!("{table} t JOIN ({source}) s ON {key} WHERE {}", distinct.join(" OR ")), keys("t")),
    ]
}

/// One target's line in the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LedgerEntry {
    pub(super) label: String,
    pub(super) seq: u64,
    pub(super) table_id: String,
    pub(super) from: Option<u64>,
    pub(super) to: u64,
    pub(super) watermark: Option<String>,
    pub(super) content_hash: String,
    pub(super) files: usize,
    pub(super) staged: u64,
    pub(super) inserted: u64,
    pub(super) updated: u64,
    pub(super) deleted: u64,
    pub(super) rows_after: u64,
    pub(super) max_seq_after: Option<u64>,
    pub(super) epoch: u64,
    pub(super) query_id: String,
}

/// Step 9: all lines of one transaction in one statement.
pub(super) fn write_ledger(database: &str, run_id: &str, entries: &[LedgerEntry]) -> Statement {
    let number = |value: Option<u64>| value.map_or_else(|| "NULL".to_owned(), |value| value.to_string());
    let text = "CAST(? AS VARCHAR)";
    let rows: Vec<_> = entries
        .iter()
        .map(|entry| {
            let watermark = entry.watermark.as_ref().map_or("NULL".to_owned(), |text| format!("'{text}'::TIMESTAMP_NTZ"));
            format!(
                "SELECT {text}, {}, {text}, {text}, {}, {}, {watermark}, {text}, {}, {}, {}, {}, {}, {}, {}, {}, {text}, SYSDATE()",
                entry.seq,
                number(entry.from),
                entry.to,
                entry.files,
                entry.staged,
                entry.inserted,
                entry.updated,
                entry.deleted,
                entry.rows_after,
                number(entry.max_seq_after),
                entry.epoch,
            )
        })
        .collect();
    let bindings = entries.iter().flat_map(|entry| {
        [entry.label.as_str(), run_id, entry.table_id.as_str(), entry.content_hash.as_str(), entry.query_id.as_str()]
    });
    Statement::write(
        "ledger",
        format!(
            "INSERT INTO {} (TARGET_TABLE, SEQ, RUN_ID, TABLE_ID, FROM_VERSION, TO_VERSION, WATERMARK, CONTENT_HASH, FILES, ROWS_STAGED, \
             ROWS_INSERTED, ROWS_UPDATED, ROWS_DELETED, ROWS_AFTER, MAX_SEQ_AFTER, EPOCH, MERGE_QUERY_ID, COMMITTED_AT) {}",
            ledger(database),
            rows.join(" UNION ALL ")
        ),
    )
    .bind(bindings)
}

/// Step 11: how often the ledger has this publication of a target.
pub(super) fn proof(database: &str, label: &str, seq: u64) -> Statement {
    Statement::idempotent(
        "proof",
        format!(
            "SELECT COUNT(*)::VARCHAR FROM {} WHERE TARGET_TABLE = CAST(? AS VARCHAR) AND SEQ = {seq}",
            ledger(database)
        ),
    )
    .bind([label])
}

/// Step 11: files are not needed any more.
pub(super) fn remove(directory: &str) -> Statement {
    Statement::idempotent("clean", format!("REMOVE {directory}"))
}
