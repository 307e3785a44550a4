//! The functions through SQL, as models call them.

use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;

use super::register_all;

fn session() -> SessionContext {
    let ctx = SessionContext::new();
    register_all(&ctx);
    ctx
}

async fn try_query(sql: &str) -> Result<Vec<Vec<String>>, String> {
    let frame = session().sql(sql).await.map_err(|error| error.strip_backtrace())?;
    let batches = frame.collect().await.map_err(|error| error.strip_backtrace())?;
    let table = pretty_format_batches(&batches).unwrap().to_string();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    Ok(table.lines().filter(|line| line.starts_with('|')).skip(1).map(cells).collect())
}

async fn query(sql: &str) -> Vec<Vec<String>> {
    try_query(sql).await.unwrap()
}

async fn value(expression: &str) -> String {
    query(&format!("select {expression}")).await[0][0].clone()
}

#[tokio::test]
async fn wall_clocks_follow_clock_changes() {
    // GZ7: the night of 2025-03-09 loses an hour in New York, that of 2025-11-02 gains one.
    for (instant, wall) in [
        ("2025-03-09T04:00:00Z", "2025-03-08T23:00:00"),
        ("2025-03-09T11:00:00Z", "2025-03-09T07:00:00"),
        ("2025-11-02T03:00:00Z", "2025-11-01T23:00:00"),
        ("2025-11-02T12:00:00Z", "2025-11-02T07:00:00"),
    ] {
        assert_eq!(value(&format!("local_ts('{instant}', 'America/New_York')")).await, wall);
    }
}

#[tokio::test]
async fn a_night_runs_from_local_noon_to_the_next() {
    // GZ8: the noon boundary, and one instant that belongs to different nights in different zones.
    for (instant, zone, night) in [
        ("2025-06-01T21:30:00Z", "Europe/Berlin", "2025-06-01"),
        ("2025-06-02T15:30:00Z", "America/New_York", "2025-06-01"),
        ("2025-06-02T15:30:00Z", "Europe/Berlin", "2025-06-02"),
        ("2025-06-02T15:59:59.999999Z", "America/New_York", "2025-06-01"),
        ("2025-06-02T16:00:00Z", "America/New_York", "2025-06-02"),
        ("2025-06-03T03:00:00Z", "America/New_York", "2025-06-02"),
        ("1969-12-31T11:59:59Z", "UTC", "1969-12-30"),
    ] {
        assert_eq!(value(&format!("night_of('{instant}', '{zone}', '12:00')")).await, night);
        assert_eq!(value(&format!("night_of('{instant}', '{zone}')")).await, night);
    }
    assert_eq!(value("night_of('2025-06-02T05:59:59Z', 'UTC', '06:00')").await, "2025-06-01");
}

#[tokio::test]
async fn removed_wall_clocks_move_forward_and_of_repeated_ones_the_first_counts() {
    for (wall, zone, instant) in [
        // GZ10: light windows in Berlin before and on the day when clocks go forward.
        ("2025-03-29T06:00:00", "Europe/Berlin", "2025-03-29T05:00:00Z"),
        ("2025-03-30T06:00:00", "Europe/Berlin", "2025-03-30T04:00:00Z"),
        ("2025-03-30T02:30:00", "Europe/Berlin", "2025-03-30T01:30:00Z"),
        ("2025-10-26T02:30:00", "Europe/Berlin", "2025-10-26T00:30:00Z"),
        // Half an hour is missing on Lord Howe Island; a whole day in Samoa.
        ("2025-10-05T02:15:00", "Australia/Lord_Howe", "2025-10-04T15:45:00Z"),
        ("2011-12-30T12:00:00", "Pacific/Apia", "2011-12-30T22:00:00Z"),
    ] {
        assert_eq!(value(&format!("local_to_utc('{wall}', '{zone}')")).await, instant, "{wall} {zone}");
    }
}

#[tokio::test]
async fn an_unknown_zone_is_an_error_that_names_it() {
    let error = try_query("select local_ts('2025-03-09T04:00:00Z', tz) from (values ('Mars/Base')) as t(tz)").await;
    insta::assert_snapshot!(error.unwrap_err(), @"Execution error: time zone is not known, tz=`Mars/Base`");
    let error = try_query("select night_of('2025-03-09T04:00:00Z', 'UTC', 'noon')").await.unwrap_err();
    assert!(error.contains("cutoff is no time of day such as 12:00, cutoff=`noon`"), "{error}");
}

#[tokio::test]
async fn null_in_gives_null_out() {
    for expression in ["local_ts(null, 'UTC')", "local_ts(now(), null)", "night_of(null, 'UTC')", "json_get(null, 'a')"]
    {
        assert_eq!(value(expression).await, "", "{expression}");
    }
}

#[tokio::test]
async fn overlapping_intervals_count_once() {
    // GZ5: 22:00 to 02:00 and 01:00 to 03:00 are five hours.
    let sql = "select union_seconds(cast(s as timestamp), cast(e as timestamp)) from (values
        ('2025-03-14T22:00:00Z', '2025-03-15T02:00:00Z'),
        ('2025-03-15T01:00:00Z', '2025-03-15T03:00:00Z'),
        ('2025-03-15T01:30:00Z', null)) as t(s, e)";
    assert_eq!(query(sql).await, [["18000.000000"]]);
    let none = "select union_seconds(cast(s as timestamp), cast(s as timestamp)) from (values ('2025-03-14')) as t(s)";
    assert_eq!(query(none).await, [["0.000000"]]);
    assert_eq!(query(&format!("{none} where false")).await, [["0.000000"]]);
}

#[tokio::test]
async fn intervals_are_united_per_group_and_across_partitions() {
    let ctx = SessionContext::new_with_config(datafusion::prelude::SessionConfig::new().with_target_partitions(4));
    register_all(&ctx);
    let sql = "select g, union_seconds(to_timestamp_micros(v * 1000000), to_timestamp_micros((v + 2) * 1000000)) as s
        from (select v % 3 as g, v from (select unnest(range(0, 30000)) as v)) group by g order by g";
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    let table = pretty_format_batches(&batches).unwrap().to_string();
    assert_eq!(table.matches("20000.000000").count(), 3, "{table}");
}

#[tokio::test]
async fn counts_are_objects_with_sorted_keys_that_add_up() {
    let rows = "(values (1, 'RU'), (1, 'CA'), (1, 'CA'), (2, 'say \"hi\"'), (2, 'CA'), (2, null)) as t(g, locale)";
    let per_group = format!("select g, count_by(locale) as stats from {rows} group by g");
    assert_eq!(
        query(&format!("select stats from ({per_group}) order by g")).await,
        [[r#"{"CA":2,"RU":1}"#], [r#"{"CA":1,"say \"hi\"":1}"#]]
    );
    let whole = query(&format!("select count_by(locale) from {rows}")).await;
    let added = query(&format!("select sum_counts(stats) from ({per_group})")).await;
    assert_eq!(whole, added);
    assert_eq!(query(&format!("select count_by(locale) from {rows} where g = 9")).await, [["{}"]]);
}

#[tokio::test]
async fn the_row_with_the_extreme_gives_the_value() {
    let rows = "(values ('a', 1), ('b', 3), ('c', 3), ('d', null), ('e', 0)) as t(v, o)";
    let sql = format!("select arg_max(v, o), arg_min(v, o), max_by(o, v) from {rows}");
    // `b` and `c` tie: the greater value wins, whatever the order of rows.
    assert_eq!(query(&sql).await, [["c", "e", "0"]]);
    assert_eq!(query(&format!("select arg_max(v, o) from {rows} where o is null")).await, [[""]]);
}

#[tokio::test]
async fn parts_of_json_keep_their_text() {
    let json = r#"'{"id": 12345678901234567890123, "n": 1e3, "list": [{"t": "a\"b"}], "none": null}'"#;
    for (expression, expected) in [
        ("json_get(j, 'id')", "12345678901234567890123"),
        ("json_get_text(j, 'n')", "1e3"),
        ("json_get(j, 'list', 0, 't')", r#""a\"b""#),
        ("json_get_text(j, 'list', 0, 't')", r#"a"b"#),
        ("json_get(j, 'none')", ""),
        ("json_get(j, 'list', 7)", ""),
        ("json_get('no json', 'x')", ""),
    ] {
        assert_eq!(
            query(&format!("select {expression} from (select {json} as j)")).await,
            [[expected]],
            "{expression}"
        );
    }
}

#[tokio::test]
async fn sha256_is_in_lower_case_hex() {
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(value("sha256_hex('abc')").await, expected);
}

#[tokio::test]
async fn windows_of_the_shipped_macros_are_aligned_to_the_epoch() {
    let ctx = session();
    let instant = "arrow_cast('2025-03-09T12:00:59.999999Z', 'Timestamp(Microsecond, Some(\"UTC\"))')";
    let renderer = crate::render::Renderer::new(&crate::project::tests::load(&[("models/m.sql", "select 1")])).unwrap();
    let relations: crate::render::SharedRelations = std::sync::Arc::new(crate::render::PlainRelations::default());
    let template =
        "select {{ tumble_start('t', 10) }} as s, {{ tumble_end('t', 10) }} as e, {{ hop_starts('t', 60, 30) }} as h
        from (select INSTANT as t)";
    let sql =
        renderer.inline(&template.replace("INSTANT", instant), &crate::render::RenderContext::default(), &relations);
    let batches = ctx.sql(&sql.unwrap()).await.unwrap().collect().await.unwrap();
    insta::assert_snapshot!(pretty_format_batches(&batches).unwrap().to_string(), @"
    +----------------------+----------------------+----------------------------------------------+
    | s                    | e                    | h                                            |
    +----------------------+----------------------+----------------------------------------------+
    | 2025-03-09T12:00:50Z | 2025-03-09T12:01:00Z | [2025-03-09T12:00:00Z, 2025-03-09T12:00:30Z] |
    +----------------------+----------------------+----------------------------------------------+
    ");
}

#[tokio::test]
async fn times_of_any_unit_and_zone_are_instants() {
    for time in [
        "arrow_cast(1741521600, 'Timestamp(Second, None)')",
        "arrow_cast(1741521600000000000, 'Timestamp(Nanosecond, Some(\"America/New_York\"))')",
        "'2025-03-09T13:00:00+01:00'",
        "timestamp '2025-03-09 12:00:00'",
    ] {
        assert_eq!(value(&format!("local_ts({time}, 'Europe/Berlin')")).await, "2025-03-09T13:00:00", "{time}");
    }
    assert_eq!(value("local_ts(date '2025-03-09', 'UTC')").await, "2025-03-09T00:00:00");
    let error = try_query("select local_ts(5, 'UTC')").await.unwrap_err();
    assert!(error.contains("argument is no timestamp, function=`local_ts`, type=`Int64`"), "{error}");
}

#[tokio::test]
async fn shipped_helpers_run() {
    let project = crate::project::tests::load(&[("models/m.sql", "select 1")]);
    let renderer = crate::render::Renderer::new(&project).unwrap();
    let relations: crate::render::SharedRelations = std::sync::Arc::new(crate::render::PlainRelations::default());
    let ctx = session();
    ctx.sql("create table t as select * from (values (1, 'a', 2), (1, 'a', 5), (2, null, 1)) as t(id, code, version)")
        .await
        .unwrap();
    let template = "select id, version, substr({{ dbt_utils.generate_surrogate_key(['id', 'code']) }}, 1, 8) as k,
            {{ seconds_between(\"timestamp '2025-03-09 12:00:00'\", \"timestamp '2025-03-09 12:00:09.9'\") }} as s
        from ({{ dbt_utils.deduplicate('t', 'id, code', 'version desc') }}) order by id";
    let sql = renderer.inline(template, &crate::render::RenderContext::default(), &relations).unwrap();
    let batches = ctx.sql(&sql).await.unwrap().collect().await.unwrap();
    insta::assert_snapshot!(pretty_format_batches(&batches).unwrap().to_string(), @"
    +----+---------+----------+---+
    | id | version | k        | s |
    +----+---------+----------+---+
    | 1  | 5       | fd863b01 | 9 |
    | 2  | 1       | 529273ab | 9 |
    +----+---------+----------+---+
    ");
}

#[tokio::test]
async fn filters_and_empty_groups_count_nothing() {
    let sql = "select g,
            union_seconds(to_timestamp_micros(s), to_timestamp_micros(e)) filter (where ok) as seconds,
            count_by(k) filter (where ok) as counts
        from (values (1, 0, 2000000, true, 'a'), (1, 0, 9000000, false, 'b'), (2, 0, 5000000, false, 'c')) as t(g, s, e, ok, k)
        group by g order by g";
    assert_eq!(query(sql).await, [["1", "2.000000", r#"{"a":1}"#], ["2", "0.000000", "{}"]]);
}

#[tokio::test]
async fn watermarks_compare_with_instants() {
    let literal = |at: &str| format!("arrow_cast({at}, 'Timestamp(Microsecond, Some(\"UTC\"))')");
    let known = literal("1741521600000000");
    assert_eq!(value(&format!("{known} >= {} + interval '10 seconds'", literal("1741521590000000"))).await, "true");
    assert_eq!(value(&format!("coalesce({} >= {known}, false)", literal("null"))).await, "false");
}
