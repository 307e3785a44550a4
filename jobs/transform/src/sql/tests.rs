//! Queries of other dialects in, rows out.

use datafusion::prelude::{SessionConfig, SessionContext};

use super::{plan, trouble};

fn context() -> SessionContext {
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let context = SessionContext::new_with_config(config);
    crate::udf::register_all(&context);
    context
}

async fn rows(sql: &str) -> String {
    let context = context();
    let frame = plan(&context, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let batches = frame.collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut lines = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cells =
                batch.columns().iter().map(|column| arrow::util::display::array_value_to_string(column, row).unwrap());
            lines.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    lines.join("\n")
}

#[tokio::test]
async fn words_that_warehouses_share_are_understood() {
    for (sql, wanted) in [
        ("select dateadd(month, 1, date '2024-01-31')", "2024-02-29"),
        ("select dateadd(days, -30, timestamp '2024-03-01 12:00:00')", "2024-01-31T12:00:00"),
        ("select dateadd('hour', 2, date '2024-01-01')", "2024-01-01T02:00:00"),
        ("select dateadd('day', days, x) from (values (2, date '2024-01-01')) as t(days, x)", "2024-01-03"),
        ("select last_day(day) from (values (date '2024-02-03')) as t(day)", "2024-02-29"),
        ("select datediff(day, '2024-01-01 23:00:00'::timestamp, '2024-01-03 01:00:00'::timestamp)", "2"),
        ("select datediff(month, date '2023-12-31', date '2024-02-01')", "2"),
        ("select date_diff(date '2024-01-05', date '2024-01-01', day)", "4"),
        ("select date_trunc(month, timestamp '2024-03-09 10:00:00')", "2024-03-01T00:00:00"),
        ("select 0::float, '12'::number, 'x'::string, '1.25'::numeric(10, 1)", "0.0|12|x|1.3"),
        ("select iff(1 > 2, 'a', 'b'), ifnull(null, 'c'), nvl(null, 'd'), zeroifnull(null)", "b|c|d|0"),
        ("select year(date '2024-03-09'), quarter(date '2024-03-09'), dayofweek(date '2024-03-09')", "2024|1|6"),
        ("select listagg(x, ',') within group (order by x desc) from (values ('a'), ('b')) as t(x)", "b,a"),
        ("select len('abc'), charindex('c', 'abc'), startswith('abc', 'ab')", "3|3|true"),
        ("select to_char(timestamp '2024-03-09 10:05:00', 'YYYY-MM-DD HH24:MI')", "2024-03-09 10:05"),
        ("select date('2024-03-09'), last_day(date '2024-02-03')", "2024-03-09|2024-02-29"),
        ("select decode(2, 1, 'one', 2, 'two', 'many'), div0(1, 0)", "two|0"),
        ("select safe_divide(4, 2), countif(x > 1) from (values (1), (2), (3)) as t(x)", "2|2"),
        ("select '{\"a\": {\"b\": 1}}' -> 'a', '{\"a\": 7}' ->> 'a'", "{\"b\": 1}|7"),
        ("select max_by(x, y) from (values ('a', 1), ('b', 2)) as t(x, y)", "b"),
        ("select * exclude (b) from (select 1 as a, 2 as b)", "1"),
        ("select try_cast('x' as int), try_to_date('2024-01-02')", "|2024-01-02"),
        ("select x from (values (1), (2)) as t(x) qualify row_number() over (order by x desc) = 1", "2"),
        ("select cast(timestamp '2024-03-09 10:00:00' as timestamp_ntz)", "2024-03-09T10:00:00"),
        ("select date_diff('day', date '2024-01-01', day) from (values (date '2024-01-05')) as t(day)", "4"),
        ("select date '2024-01-31' + n * interval '1 month' from (values (1)) as t(n)", "2024-02-29"),
        ("select date '2024-01-31' - interval 2 day * n from (values (1)) as t(n)", "2024-01-29"),
        (
            "select date_add(date '2024-01-31', interval 1 day), date_sub(date '2024-01-31', interval '1 day')",
            "2024-02-01|2024-01-30",
        ),
        (
            "select dayname(date '2024-03-09'), monthname(date '2024-03-09'), isodow(date '2024-03-10')",
            "Saturday|March|7",
        ),
        (
            "select regexp_substr('abc12', '[0-9]+'), regexp_extract('abc12', '([a-z]+)([0-9]+)', 2), regexp_substr('a', 'b')",
            "12|12|",
        ),
        ("select 7 // 2, sign(-3), every(true), variance(x) from (values (1), (3)) as t(x)", "3|-1.0|true|2.0"),
        ("select count(distinct x, y) from (values (1, 2), (1, 2), (1, null), (2, 2)) as t(x, y)", "2"),
        ("select x from (values (1), (2)) as t(x) order by x fetch first 1 rows only", "1"),
        (
            "select x, exists (select 1 from (values (2)) as u(y) where u.y = t.x) from (values (1), (2)) as t(x) order by x",
            "1|false\n2|true",
        ),
        (
            "select x, x not in (select y from (values (2)) as u(y)) as z from (values (1), (2)) as t(x) order by x",
            "1|true\n2|false",
        ),
        ("select row_number() over (order by (select null)) from (values (5)) as t(x)", "1"),
        (
            "select coalesce(array_length((select regexp_matches(x, '(a)(b)', '')), 1), 0), regexp_matches(x, 'z') from (values ('ab')) as t(x)",
            "2|false",
        ),
        ("select x = 1, 0 = x, x <> 1 from (values (true), (false)) as t(x)", "true|false|false\nfalse|true|true"),
        (
            "select timestamp '2024-07-01 12:00:00' at time zone 'UTC' at time zone 'Europe/Berlin'",
            "2024-07-01T14:00:00",
        ),
        (
            "select x from (values (1, 'a'), (2, 'b')) as t(x, y) where (x, y) in (select * from (values (2, 'b'), (1, 'b')) as u(v, w))",
            "2",
        ),
        ("select x from (values (1), (2)) as t(x) semi join (values (2)) as u(y) on t.x = u.y", "2"),
        ("select json_extract_string('{\"a\": {\"b\": [1, 2]}}', '$.a.b[1]'), '{\"a\": 7}' ->> '$.a'", "2|7"),
        ("select x from (values ('ab'), ('cd')) as t(x) where x like any ('a%', 'x%')", "ab"),
        (
            "select percentile_cont(0.5) within group (order by x) over () from (values (1.0), (3.0)) as t(x) limit 1",
            "2.0",
        ),
        ("select convert_timezone('UTC', 'Europe/Berlin', timestamp '2024-01-01 12:00:00')", "2024-01-01T13:00:00"),
    ] {
        assert_eq!(rows(sql).await, wanted, "{sql}");
    }
}

#[tokio::test]
async fn an_alias_may_be_used_beside_its_definition() {
    let sql = "with t as (select 2 as a, 3 as b)
        select a + b as total, total * 2 as twice, twice - b as c, row_number() over (order by total) as n from t where twice > 3";
    assert_eq!(rows(sql).await, "5|10|7|1");
    // A column of that name wins.
    assert_eq!(rows("select a + 1 as b, b + 1 as c from (select 1 as a, 10 as b) as t").await, "2|11");
}

#[tokio::test]
async fn names_are_found_in_either_case() {
    assert_eq!(rows("select t.\"ID\", \"Name\" from (select 1 as id, 'a' as name) as t where \"ID\" = 1").await, "1|a");
    assert_eq!(rows("select id, upper(NAME) from (select 1 as \"ID\", 'a' as \"Name\") as t").await, "1|A");
    // Two of them are told apart.
    assert_eq!(rows("select \"ID\", id from (select 1 as id, 2 as \"ID\") as t").await, "2|1");
}

#[tokio::test]
async fn a_comparison_that_knows_null_binds_more_than_and_and_or() {
    let pairs = [
        ("a is distinct from b and c", "(a is distinct from b) and c"),
        ("a is not distinct from b or c and d", "(a is not distinct from b) or (c and d)"),
        ("a is distinct from (b and c)", "a is distinct from (b and c)"),
        ("c and d is distinct from a or d", "(c and (d is distinct from a)) or d"),
        ("not a is distinct from d and c or d", "((not (a is distinct from d)) and c) or d"),
        (
            "a is distinct from b and c is distinct from d or a and d is not distinct from c and b",
            "((a is distinct from b) and (c is distinct from d)) or ((a and (d is not distinct from c)) and b)",
        ),
    ];
    for values in 0..27 {
        let value = |place: u32| ["true", "false", "cast(null as boolean)"][values / 3_usize.pow(place) % 3];
        let from = format!("from (select {} as a, {} as b, {} as c, true as d) as t", value(0), value(1), value(2));
        for (written, meant) in pairs {
            let both = rows(&format!("select {written} as one, {meant} as other {from}")).await;
            let (one, other) = both.split_once('|').unwrap();
            assert_eq!(one, other, "{written} {from}");
        }
    }
}

async fn explained(sql: &str) -> String {
    let error = plan(&context(), sql).await.expect_err("the query is wrong");
    let found = trouble(&error);
    let at = found.at.map(|(line, column)| format!("{line}:{column} ")).unwrap_or_default();
    format!("{at}{}{}", found.message, found.hint.map(|hint| format!(" -> {hint}")).unwrap_or_default())
}

#[tokio::test]
async fn faults_know_their_place() {
    let from = "from (select 1 as user_id, 'x' as name) as users";
    insta::assert_snapshot!(explained(&format!("select\n  usr_id\n{from}")).await, @"2:3 no column of that name, column=`usr_id` -> did you mean `user_id`?");
    insta::assert_snapshot!(explained(&format!("select users.zzz {from}")).await, @"1:8 no column of that name, column=`zzz`, table=`users` -> there are: user_id, name");
    insta::assert_snapshot!(explained(&format!("select user_id {from} cross join (select 2 as user_id) as others")).await, @"1:8 the column stands in more than one table, column=`user_id` -> put the table's name in front: `….user_id`");
    insta::assert_snapshot!(explained(&format!("select user_id,\n from where {from}")).await, @"2:7 SQL cannot be parsed: expected an expression, found: from");
    insta::assert_snapshot!(explained(&format!("select no_such_thing(user_id) {from}")).await, @"1:8 no function of that name, function=`no_such_thing`");
    insta::assert_snapshot!(explained("select * from nowhere").await, @"1:15 no table of that name, table=`nowhere`");
}
