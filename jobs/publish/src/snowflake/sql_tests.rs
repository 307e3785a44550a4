//! Every statement as a person would read it, and what must hold for all of them.

use insta::assert_snapshot;

use super::ddl;
use super::load::{Load, LoadColumn};
use super::names::{Names, quoted};
use super::sql::{self, KeyRange, LedgerEntry};
use super::statement::{Effect, Repeat, Statement};
use super::types::column_type;
use crate::{Strategy, TargetTable};
use arrow::datatypes::DataType;

const STAGING: &str = "ZONER_DB.STAGE.MARTS__NIGHTS__E7_9F3A1C20";

fn load(strategy: Strategy, full: bool) -> Load {
    let columns = [
        ("user_id", DataType::Utf8, false),
        ("night", DataType::Date32, false),
        ("order", DataType::Int64, false),
        ("detail", DataType::Utf8, true),
    ];
    let columns = columns.into_iter().enumerate().map(|(index, (name, data_type, is_json))| LoadColumn {
        staged: format!("C{index:03}"),
        target: quoted(name),
        name: name.to_uppercase(),
        column_type: column_type(&data_type, is_json).expect("the type has a form"),
    });
    let target = TargetTable { database: "ZONER_DB".into(), schema: "MARTS".into(), table: "NIGHTS".into() };
    Load { names: Names::new(&target), columns: columns.collect(), key: vec![0, 1], strategy, full, seq: 12 }
}

fn text(statements: &[Statement]) -> String {
    statements.iter().map(|statement| statement.sql.as_str()).collect::<Vec<_>>().join(";\n")
}

fn range() -> KeyRange {
    KeyRange { column: 1, least: "2026-03-01".into(), greatest: "2026-03-03".into() }
}

#[test]
fn merge_names_columns_prunes_and_guards() {
    let statements = sql::apply(&load(Strategy::Merge, false), STAGING, &[range()], &[]);
    assert_snapshot!(text(&statements), @r#"MERGE INTO ZONER_DB.MARTS.NIGHTS t USING (SELECT C000, C001, C002, PARSE_JSON(C003) AS C003, _OP, _BATCH FROM ZONER_DB.STAGE.MARTS__NIGHTS__E7_9F3A1C20 QUALIFY ROW_NUMBER() OVER (PARTITION BY C000, C001 ORDER BY _ORDER DESC) = 1) s ON t."USER_ID" = s.C000 AND t."NIGHT" = s.C001 AND t."NIGHT" BETWEEN '2026-03-01'::DATE AND '2026-03-03'::DATE WHEN MATCHED AND s._OP = 'D' AND (t."_TIDEMILL_SEQ" IS NULL OR t."_TIDEMILL_SEQ" < 12) THEN DELETE WHEN MATCHED AND s._OP = 'U' AND (t."_TIDEMILL_SEQ" IS NULL OR t."_TIDEMILL_SEQ" < 12) THEN UPDATE SET "ORDER" = s.C002, "DETAIL" = s.C003, "_TIDEMILL_SEQ" = 12 WHEN NOT MATCHED AND s._OP = 'U' THEN INSERT ("USER_ID", "NIGHT", "ORDER", "DETAIL", "_TIDEMILL_SEQ") VALUES (s.C000, s.C001, s.C002, s.C003, 12)"#);
}

#[test]
fn a_full_load_updates_what_differs_and_deletes_what_is_not_staged() {
    let statements = sql::apply(&load(Strategy::Merge, true), STAGING, &[], &[]);
    assert_snapshot!(text(&statements), @r#"
    MERGE INTO ZONER_DB.MARTS.NIGHTS t USING (SELECT C000, C001, C002, PARSE_JSON(C003) AS C003, _OP, _BATCH FROM ZONER_DB.STAGE.MARTS__NIGHTS__E7_9F3A1C20 QUALIFY ROW_NUMBER() OVER (PARTITION BY C000, C001 ORDER BY _ORDER DESC) = 1) s ON t."USER_ID" = s.C000 AND t."NIGHT" = s.C001 WHEN MATCHED AND s._OP = 'U' AND (t."ORDER" IS DISTINCT FROM s.C002 OR t."DETAIL" IS DISTINCT FROM s.C003) THEN UPDATE SET "ORDER" = s.C002, "DETAIL" = s.C003, "_TIDEMILL_SEQ" = 12 WHEN NOT MATCHED AND s._OP = 'U' THEN INSERT ("USER_ID", "NIGHT", "ORDER", "DETAIL", "_TIDEMILL_SEQ") VALUES (s.C000, s.C001, s.C002, s.C003, 12);
    DELETE FROM ZONER_DB.MARTS.NIGHTS t WHERE NOT EXISTS (SELECT 1 FROM ZONER_DB.STAGE.MARTS__NIGHTS__E7_9F3A1C20 s WHERE t."USER_ID" = s.C000 AND t."NIGHT" = s.C001)
    "#);
}

#[test]
fn batches_are_replaced_by_their_label() {
    let statements =
        sql::apply(&load(Strategy::ReplaceBatches, false), STAGING, &[], &["2026-03-01".into(), "2026-03-02".into()]);
    assert_snapshot!(text(&statements), @r#"
    DELETE FROM ZONER_DB.MARTS.NIGHTS WHERE "_TIDEMILL_BATCH" IN (CAST(? AS VARCHAR), CAST(? AS VARCHAR));
    INSERT INTO ZONER_DB.MARTS.NIGHTS ("USER_ID", "NIGHT", "ORDER", "DETAIL", "_TIDEMILL_SEQ", "_TIDEMILL_BATCH") SELECT s.C000, s.C001, s.C002, s.C003, 12, s._BATCH FROM (SELECT C000, C001, C002, PARSE_JSON(C003) AS C003, _OP, _BATCH FROM ZONER_DB.STAGE.MARTS__NIGHTS__E7_9F3A1C20 QUALIFY ROW_NUMBER() OVER (PARTITION BY C000, C001 ORDER BY _ORDER DESC) = 1) s
    "#);
    assert_eq!(statements[0].bindings, ["2026-03-01", "2026-03-02"]);
}

#[test]
fn append_only_never_scans_the_target() {
    let statements = sql::apply(&load(Strategy::AppendOnly, false), STAGING, &[], &[]);
    assert_snapshot!(text(&statements), @r#"INSERT INTO ZONER_DB.MARTS.NIGHTS ("USER_ID", "NIGHT", "ORDER", "DETAIL", "_TIDEMILL_SEQ") SELECT s.C000, s.C001, s.C002, s.C003, 12 FROM (SELECT C000, C001, C002, PARSE_JSON(C003) AS C003, _OP, _BATCH FROM ZONER_DB.STAGE.MARTS__NIGHTS__E7_9F3A1C20 QUALIFY ROW_NUMBER() OVER (PARTITION BY C000, C001 ORDER BY _ORDER DESC) = 1) s"#);
}

#[test]
fn copy_reads_a_whole_directory_with_logical_types() {
    let directory = load(Strategy::Merge, false).names.directory(12, "c0ffee00c0ffee00c0ffee00", "9f3a1c2055");
    assert_snapshot!(sql::copy(STAGING, &directory).sql, @"COPY INTO ZONER_DB.STAGE.MARTS__NIGHTS__E7_9F3A1C20 FROM @ZONER_DB.STAGE.FILES/MARTS__NIGHTS/12-c0ffee00c0ffee00-9f3a1c20/ FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE) MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE ON_ERROR = ABORT_STATEMENT FORCE = TRUE");
    assert_snapshot!(sql::put("part-00000.parquet", &directory).sql, @" PUT file:///tidemill/part-00000.parquet @ZONER_DB.STAGE.FILES/MARTS__NIGHTS/12-c0ffee00c0ffee00-9f3a1c20/ AUTO_COMPRESS=FALSE OVERWRITE=TRUE");
}

#[test]
fn the_head_is_a_compare_and_swap() {
    let load = load(Strategy::Merge, false);
    let statement = sql::move_head(&load, "owner", "{}", "hash");
    assert_snapshot!(statement.sql, @"UPDATE ZONER_DB.OPS.TIDEMILL_HEAD__MARTS__NIGHTS SET SEQ = 12, POSITION = CAST(? AS VARCHAR), CONTENT_HASH = CAST(? AS VARCHAR), UPDATED_AT = SYSDATE() WHERE TARGET_TABLE = CAST(? AS VARCHAR) AND OWNER = CAST(? AS VARCHAR) AND SEQ = 11");
    assert_eq!(statement.bindings, ["{}", "hash", "MARTS.NIGHTS", "owner"]);
    assert_snapshot!(sql::take(&load.names, "owner").sql, @"UPDATE ZONER_DB.OPS.TIDEMILL_HEAD__MARTS__NIGHTS SET EPOCH = EPOCH + 1, OWNER = CAST(? AS VARCHAR), UPDATED_AT = SYSDATE() WHERE TARGET_TABLE = CAST(? AS VARCHAR)");
}

#[test]
fn commit_is_never_sent_again() {
    assert_eq!((sql::commit().repeat, sql::commit().effect), (Repeat::Never, Effect::End));
    assert_eq!((sql::begin().repeat, sql::begin().effect), (Repeat::IfNotRun, Effect::Begin));
}

#[test]
fn ledger_lines_go_in_with_one_statement_and_bind_all_text() {
    let entry = LedgerEntry {
        label: "MARTS.NIGHTS".into(),
        seq: 12,
        table_id: "t'x".into(),
        to: 5,
        query_id: "q".into(),
        ..LedgerEntry::default()
    };
    let statement = sql::write_ledger("ZONER_DB", "run'1", &[entry.clone(), entry]);
    assert_eq!(statement.sql.matches("INSERT INTO").count(), 1);
    assert_eq!(statement.sql.matches('?').count(), statement.bindings.len());
    assert!(!statement.sql.contains('\''), "no text is spliced: {}", statement.sql);
}

#[test]
fn the_target_is_created_with_the_loaders_own_column() {
    assert_snapshot!(ddl::target(&load(Strategy::Merge, false))[1].sql, @r#"CREATE TABLE IF NOT EXISTS ZONER_DB.MARTS.NIGHTS ("USER_ID" VARCHAR, "NIGHT" DATE, "ORDER" NUMBER(38,0), "DETAIL" VARIANT, "_TIDEMILL_SEQ" NUMBER(38,0))"#);
}

#[test]
fn statements_and_bindings_agree_everywhere() {
    let load = load(Strategy::ReplaceBatches, false);
    let names = [&load.names, &load.names];
    let mut all = ddl::database("ZONER_DB");
    all.extend(ddl::target(&load));
    all.extend(ddl::add_columns(&load, &["DETAIL".into(), "_TIDEMILL_BATCH".into()]));
    all.extend(sql::create_staging(&load, STAGING));
    all.extend(sql::apply(&load, STAGING, &[range()], &["a".into()]));
    all.extend([
        ddl::known_columns("ZONER_DB", &names),
        ddl::staging_tables(&load.names),
        sql::take(&load.names, "o"),
        sql::heads(&names),
        sql::counts("count", &names),
        sql::last_entries("ZONER_DB", &names),
        sql::move_head(&load, "o", "{}", "h"),
        sql::staged(&load, STAGING),
        sql::proof("ZONER_DB", "MARTS.NIGHTS", 12),
    ]);
    for statement in all {
        assert_eq!(statement.sql.matches('?').count(), statement.bindings.len(), "{}", statement.sql);
    }
}
