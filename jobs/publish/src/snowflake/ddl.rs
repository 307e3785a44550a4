//! What must exist before the first publication into a database. All of it is sent outside transactions, because DDL commits.
//!
//! In production a person creates these with `sql/` under the migrator's role; the loader creates what is missing where it is
//! allowed to.

use super::load::Load;
use super::ops;
use super::names::{BATCH_COLUMN, Names, OPS, SEQ_COLUMN, STAGE, ident, ledger, quoted};
use super::statement::Statement;
use crate::Strategy;

/// Schemas, stage, ledger, tables for people and watermark view of one database.
pub(super) fn database(database: &str) -> Vec<Statement> {
    let ledger = ledger(database);
    let mut statements = vec![
        format!("CREATE SCHEMA IF NOT EXISTS {database}.{OPS}"),
        format!("CREATE SCHEMA IF NOT EXISTS {database}.{STAGE}"),
        format!("CREATE STAGE IF NOT EXISTS {database}.{STAGE}.FILES ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE')"),
        format!(
            "CREATE TABLE IF NOT EXISTS {ledger} (TARGET_TABLE VARCHAR, SEQ NUMBER(38,0), RUN_ID VARCHAR, TABLE_ID VARCHAR, \
             FROM_VERSION NUMBER(38,0), TO_VERSION NUMBER(38,0), WATERMARK TIMESTAMP_NTZ, CONTENT_HASH VARCHAR, \
             FILES NUMBER(38,0), ROWS_STAGED NUMBER(38,0), ROWS_INSERTED NUMBER(38,0), ROWS_UPDATED NUMBER(38,0), \
             ROWS_DELETED NUMBER(38,0), ROWS_AFTER NUMBER(38,0), MAX_SEQ_AFTER NUMBER(38,0), EPOCH NUMBER(38,0), \
             MERGE_QUERY_ID VARCHAR, COMMITTED_AT TIMESTAMP_NTZ)"
        ),
        format!(
            "CREATE OR REPLACE VIEW {database}.{OPS}.TIDEMILL_WATERMARK AS SELECT TARGET_TABLE, SEQ, TO_VERSION, WATERMARK, \
             COMMITTED_AT FROM {ledger} QUALIFY ROW_NUMBER() OVER (PARTITION BY TARGET_TABLE ORDER BY SEQ DESC) = 1"
        ),
    ];
    statements.extend(ops::tables(database));
    statements.into_iter().map(|sql| Statement::idempotent("setup", sql)).collect()
}

/// The target and its head.
///
/// The head starts at the greatest `SEQ` that ledger or target know, so that a head that was dropped does not make `SEQ` restart
/// below what rows carry. It is seeded by `MERGE`, which locks the table: two first publishers cannot both insert.
pub(super) fn target(load: &Load) -> Vec<Statement> {
    let (names, head) = (&load.names, load.names.head());
    let mut columns: Vec<_> =
        load.columns.iter().map(|column| format!("{} {}", column.target, column.column_type.target_sql)).collect();
    columns.extend(own_columns(load).into_iter().map(|(name, sql_type)| format!("{} {sql_type}", quoted(name))));
    let mut statements: Vec<_> = [
        format!("CREATE SCHEMA IF NOT EXISTS {}", names.schema),
        format!("CREATE TABLE IF NOT EXISTS {} ({})", names.table, columns.join(", ")),
        format!(
            "CREATE TABLE IF NOT EXISTS {head} (TARGET_TABLE VARCHAR, EPOCH NUMBER(38,0), OWNER VARCHAR, SEQ NUMBER(38,0), \
             POSITION VARCHAR, CONTENT_HASH VARCHAR, UPDATED_AT TIMESTAMP_NTZ)"
        ),
    ]
    .map(|sql| Statement::idempotent("setup", sql))
    .to_vec();
    statements.extend(add_columns(load, &[SEQ_COLUMN.to_owned()]));
    statements.push(
        Statement::idempotent(
            "setup",
            format!(
                "MERGE INTO {head} t USING (SELECT CAST(? AS VARCHAR) AS LABEL, MAX(SEQ) AS SEQ FROM (\
                 SELECT 0 AS SEQ UNION ALL SELECT SEQ FROM {ledger} WHERE TARGET_TABLE = CAST(? AS VARCHAR) \
                 UNION ALL SELECT {seq} FROM {table}) a) s ON t.TARGET_TABLE = s.LABEL WHEN NOT MATCHED THEN INSERT \
                 (TARGET_TABLE, EPOCH, OWNER, SEQ, POSITION, CONTENT_HASH, UPDATED_AT) \
                 VALUES (s.LABEL, 0, NULL, s.SEQ, NULL, NULL, SYSDATE())",
                ledger = ledger(&names.database),
                seq = quoted(SEQ_COLUMN),
                table = names.table,
            ),
        )
        .bind([names.label.as_str(), names.label.as_str()]),
    );
    statements
}

/// Columns that the loader adds to a target on its own account.
pub(super) fn own_columns(load: &Load) -> Vec<(&'static str, &'static str)> {
    let mut columns = vec![(SEQ_COLUMN, "NUMBER(38,0)")];
    if load.strategy == Strategy::ReplaceBatches {
        columns.push((BATCH_COLUMN, "VARCHAR"));
    }
    columns
}

/// Adds those of the target's columns that `missing` names (as `INFORMATION_SCHEMA` spells them).
pub(super) fn add_columns(load: &Load, missing: &[String]) -> Vec<Statement> {
    let own =
        own_columns(load).into_iter().map(|(name, sql_type)| (quoted(name), name.to_owned(), sql_type.to_owned()));
    load.columns
        .iter()
        .map(|column| (column.target.clone(), column.name.clone(), column.column_type.target_sql.clone()))
        .chain(own)
        .filter(|(_, name, _)| missing.contains(name))
        .map(|(quoted, _, sql_type)| {
            Statement::idempotent(
                "columns",
                format!("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {quoted} {sql_type}", load.names.table),
            )
        })
        .collect()
}

/// Columns of the targets as the warehouse knows them: schema, table, column, type.
pub(super) fn known_columns(database: &str, targets: &[&Names]) -> Statement {
    let places: Vec<_> =
        targets.iter().map(|_| "(TABLE_SCHEMA = CAST(? AS VARCHAR) AND TABLE_NAME = CAST(? AS VARCHAR))").collect();
    Statement::idempotent(
        "columns",
        format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE FROM {database}.INFORMATION_SCHEMA.COLUMNS WHERE {}",
            places.join(" OR ")
        ),
    )
    .bind(targets.iter().flat_map(|names| [names.schema_name.clone(), names.table_name.clone()]))
}

/// Staging tables of a target, whoever made them.
pub(super) fn staging_tables(names: &Names) -> Statement {
    Statement::idempotent(
        "clean",
        format!(
            "SELECT TABLE_NAME FROM {}.INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = '{STAGE}' AND TABLE_NAME LIKE \
             CAST(? AS VARCHAR) ESCAPE '!'",
            names.database
        ),
    )
    .bind([names.staging_pattern()])
}

/// Drops one staging table.
pub(super) fn drop_staging(names: &Names, table: &str) -> Statement {
    Statement::idempotent("clean", format!("DROP TABLE IF EXISTS {}.{STAGE}.{}", names.database, ident(table)))
}
