//! Bad projects: each fault with its file, line and column, before anything runs.

use tidemill_project::Diagnostic as _;

use super::world::World;

fn world(files: &[(&str, &str)]) -> World {
    let world = World::new();
    world.write("seeds/orders.csv", "order_id,user_id,amount,ordered_at\n1,7,2.5,2025-01-01 10:00:00\n");
    for (path, text) in files {
        world.write(path, text);
    }
    world
}

#[tokio::test]
async fn unknown_and_ambiguous_columns_and_wrong_types_are_found_where_they_stand() {
    let world = world(&[
        (
            "models/a.sql",
            "{{ config(materialized='table') }}\n\nselect\n    order_id,\n    usr_id\nfrom {{ ref('orders') }}",
        ),
        (
            "models/b.sql",
            "{% set columns = ['order_id', 'nothing_like_it'] %}\nselect {% for c in columns %}\n  {{ c }}{{ ',' if not loop.last }}{% endfor %}\nfrom {{ ref('orders') }}",
        ),
        (
            "models/c.sql",
            "select\n  order_id\nfrom {{ ref('orders') }} as a\njoin {{ ref('orders') }} as b on a.user_id = b.user_id",
        ),
        (
            "models/d.sql",
            "select o.order_id,\n       o.amount || upper(o.ordered_at - o.amount) as x\nfrom {{ ref('orders') }} as o",
        ),
        ("models/e.sql", "select order_id,\nfrom where {{ ref('orders') }}"),
        ("models/f.sql", "select no_such_function(order_id) from {{ ref('orders') }}"),
        ("macros/m.sql", "{% macro m(column) %}coalesce({{ column }}, 0){% endmacro %}"),
        ("models/g.sql", "select\n  {{- m('amont') }} as amount\nfrom {{ ref('orders') }}"),
        ("models/h.sql", "select * from {{ ref('g') }}"),
    ]);
    insta::assert_snapshot!(world.faults().await, @r#"
    TM0351 models/a.sql:5:5: no column of that name, column=`usr_id`, in=`model.a`
      hint: did you mean `user_id`?
    TM0351 models/b.sql:3:3: no column of that name, column=`nothing_like_it`, in=`model.b`
      hint: there are: order_id, user_id, amount, ordered_at
    TM0351 models/c.sql:2:3: the column stands in more than one table, column=`order_id`, in=`model.c`
      hint: put the table's name in front: `….order_id`
    TM0351 models/d.sql:2:26: cannot coerce arithmetic expression Timestamp(µs, "UTC") - Float64 to valid types, in=`model.d`
    TM0351 models/e.sql:2:6: SQL cannot be parsed: expected an expression, found: from, in=`model.e`
    TM0351 models/f.sql:1:8: no function of that name, function=`no_such_function`, in=`model.f`
    TM0351 models/g.sql:1:1: SQL cannot be parsed: expected: an SQL statement, found: selectcoalesce, in=`model.g`
    "#);
    // Nothing was built.
    assert!(world.versions().await.is_empty());
}

#[tokio::test]
async fn what_yaml_promises_is_held_against_the_sql() {
    let world = world(&[
        (
            "models/m.sql",
            "{{ config(materialized='table', contract={'enforced': true}) }}select order_id, amount, ordered_at, 1 as more from {{ ref('orders') }}",
        ),
        (
            "models/m.yml",
            "models:
  - name: m
    columns:
      - {name: order_id, data_type: varchar}
      - {name: amount}
      - {name: ordered_at, data_type: timestmap}
      - {name: order_date, data_type: date}
  - name: n
    columns:
      - {name: ordr_id, description: A slip.}
      - {name: stale, description: Long gone.}
      - {name: order_item, description: Long gone and hardly a slip.}
      - {name: tested_and_gone, data_tests: [not_null]}
",
        ),
        ("models/n.sql", "select order_id from {{ ref('orders') }}"),
    ]);
    insta::assert_snapshot!(world.faults().await, @r"
    TM0360 models/m.yml:4:9: the model gives another type than the contract says, column=`order_id`, data_type=`varchar`, found=`bigint`
      hint: cast it in the model, or say data_type: bigint
    TM0360 models/m.yml:5:9: the contract needs the type of a column, column=`amount`
      hint: add data_type: double
    TM0360 models/m.yml:6:9: type is not known, column=`ordered_at`, data_type=`timestmap`
      hint: did you mean `timestamp`?
    TM0359 models/m.yml:7:9: column `order_date` is declared in YAML but the model does not produce it
      hint: the model produces `ordered_at`; rename one of them
    TM0360 models/m.yml:2:5: the contract does not name a column of the model, column=`more`, model=`m`
      hint: add it to `columns` with its `data_type`, or leave it out of the model
    TM0359 models/m.yml:10:9: column `ordr_id` is declared in YAML but the model does not produce it
      hint: the model produces `order_id`; rename one of them
    ");
}

#[tokio::test]
async fn a_test_of_a_column_that_is_not_there_fails_where_it_stands() {
    let world = world(&[
        ("models/n.sql", "{{ config(materialized='table') }}select order_id from {{ ref('orders') }}"),
        (
            "models/n.yml",
            "models:\n  - name: n\n    columns:\n      - name: tested_and_gone\n        data_tests: [not_null]\n",
        ),
    ]);
    let report = world.try_build(&crate::run::BuildOptions::default()).await;
    // As in dbt: the model is built, its test cannot be.
    assert_eq!(world.rows("select * from n").await, ["1"]);
    let error = report.node("not_null_n_tested_and_gone").unwrap().error.as_ref().unwrap();
    assert_eq!(error.to_string(), "test is on a column that is not there, column=`tested_and_gone`, in=`n`");
    assert!(error.location().unwrap().to_string().contains("models/n.yml:"), "{:?}", error.location());
}

#[tokio::test]
async fn rows_that_break_an_enforced_contract_are_not_written() {
    let world = world(&[
        ("models/m.sql", "{{ config(materialized='table') }}select order_id, amount from {{ ref('orders') }}"),
        (
            "models/m.yml",
            "models:
  - name: m
    config: {contract: {enforced: true}}
    columns:
      - {name: order_id, data_type: int, constraints: [{type: not_null}]}
      - {name: amount, data_type: float, constraints: [{type: check, expression: 'amount > 3'}]}
",
        ),
    ]);
    let report = world.try_build(&crate::run::BuildOptions::default()).await;
    let error = report.node("m").unwrap().error.as_ref().unwrap().to_string();
    assert_eq!(error, "rows break the contract, model=`m`, constraint=`amount > 3`, rows=`1`");
    world.write("seeds/orders.csv", "order_id,user_id,amount,ordered_at\n1,7,4.5,2025-01-01 10:00:00\n");
    world.build().await;
    assert_eq!(world.rows("select * from m").await, ["1 | 4.5"]);
}

#[tokio::test]
async fn projects_that_cannot_be_read_say_all_that_is_wrong() {
    let mut seen = String::new();
    for (files, wanted) in [
        (
            vec![("models/a.sql", "select * from {{ ref('b') }}"), ("models/b.sql", "select * from {{ ref('a') }}")],
            "cycle",
        ),
        (vec![("models/a.sql", "select * from\n  {{ ref('ordres') }}")], "ref"),
        (vec![("models/a.sql", "select 1"), ("models/x/a.sql", "select 2")], "twice"),
        (vec![("models/a.sql", "select {{ 1 + }}")], "jinja"),
        (vec![("models/a.yml", "models:\n  - name: a\n   columns: []")], "yaml"),
        (vec![("packages.yml", "packages:\n  - local: ../nowhere\n")], "package"),
        (vec![("models/a.sql", "{{ config(materialized='my_own') }}select 1")], "materialization"),
        (vec![("models/a.sql", "{{ config(materialized='table', uniqe_key='id') }}select 1")], "config"),
        (vec![("models/a.py", "def model(dbt, session): pass")], "python"),
        (vec![("models/a.sql", "{{ dbt_expectations.expect(1) }}")], "package of a macro"),
        (
            vec![(
                "snapshots/s.sql",
                "{% snapshot s %}{{ config(strategy='timestamp') }}select 1 as id{% endsnapshot %}",
            )],
            "snapshot",
        ),
        (vec![("seeds/ragged.csv", "a,b\n1,2\n3\n4,5,6\n")], "ragged"),
        (
            vec![
                ("models/a.sql", "select 1 as x"),
                ("models/a.yml", "models: [{name: a, data_tests: [dbt_expectations.expect_table_row_count_to_equal]}]"),
            ],
            "package of a test",
        ),
        (
            vec![("seeds/s.csv", "a\n1\n"), ("seeds/s.yml", "seeds: [{name: s, config: {column_types: {a: intger}}}]")],
            "type",
        ),
        (vec![("models/a.sql", "{{ config(materialized='table') }}-- nothing\n")], "nothing"),
        (
            vec![
                ("models/a.yml", "models: [{name: a, description: \"{{ doc('order') }}\"}]"),
                ("models/a.sql", "select 1 as x"),
                ("models/d.md", "{% docs orders %}x{% enddocs %}"),
            ],
            "docs",
        ),
    ] {
        let told = world(&files).faults().await;
        seen.push_str(&format!("-- {wanted}\n{told}"));
    }
    insta::assert_snapshot!(seen, @r"
    -- cycle
    TM0303 models/a.sql:1:1: models form a cycle, path=`a -> b -> a`
      hint: one of these files must stop reading the one before it: models/a.sql, models/b.sql
    -- ref
    TM0301 models/a.sql:2:11: no model or seed of that name, ref=`ordres`, in=`a`
      hint: did you mean `orders`?
    -- twice
    TM0315 models/x/a.sql:1:1: two files give one name, name=`a`, other=`models/a.sql`
    -- jinja
    TM0321 models/a.sql:1:15: syntax error: unexpected end of variable block, in=`a`
    -- yaml
    TM0310 models/a.yml:3:4: file is not YAML, because=`while parsing a block collection, did not find expected '-' indicator`
    -- package
    TM0318 packages.yml:2:12: package is not there, local=`../nowhere`
      hint: it must be a folder with a dbt_project.yml, relative to this file's folder
    -- materialization
    TM0313 models/a.sql:1:4: materialization is not known, materialized=`my_own`
      hint: materializations of a project's own cannot be run; known: view, table, incremental, ephemeral, snapshot
    -- config
    TM0312 models/a.sql:1:4: unknown key, key=`uniqe_key`, in=`config`
      hint: did you mean `unique_key`?
    -- python
    TM0313 models/a.py:1:1: models in Python cannot be run
      hint: write it in SQL, or hide the file in .tidemillignore
    -- package of a macro
    TM0321 models/a.sql:1:20: there is no package or variable of that name, name=`dbt_expectations`, call=`dbt_expectations.expect`, in=`a`
      hint: a package is installed into `dbt_packages`, or its folder named in packages.yml: `local: …`
    -- snapshot
    TM0314 snapshots/s.sql:1:1: a snapshot needs a key, key=`unique_key`
    TM0314 snapshots/s.sql:1:1: a snapshot needs a key, key=`updated_at`
    -- ragged
    TM0358 seeds/ragged.csv:3: the row has another number of fields than the header, fields=`1`, columns=`2`
      hint: write a delimiter for each empty field, and quotes around a field that holds one, delimiter=`,`
    TM0358 seeds/ragged.csv:4: the row has another number of fields than the header, fields=`3`, columns=`2`
      hint: write a delimiter for each empty field, and quotes around a field that holds one, delimiter=`,`
    -- package of a test
    TM0322 models/a.yml:1:33: no generic test of that name, test=`expect_table_row_count_to_equal`
      hint: there is no package `dbt_expectations`: install it into `dbt_packages/`, or name its folder in packages.yml: `local: …`
    -- type
    TM0358 seeds/s.csv:1: type is not known, column=`a`, data_type=`intger`
      hint: did you mean `integer`?
    -- nothing
    TM0351 models/a.sql:1:1: there is no SQL in it, in=`model.a`
    -- docs
    TM0320 models/a.yml:1:10: no docs block of that name, doc=`order`
      hint: did you mean `orders`?
    ");
}

#[tokio::test]
async fn a_microbatch_model_that_begins_later_than_now_is_told() {
    let world = World::new();
    world.write("models/m.sql", "select _key, event_at from {{ source('shop', 'events') }}");
    world.write(
        "models/m.yml",
        "models:
  - name: m
    config: {materialized: incremental, incremental_strategy: microbatch, event_time: event_at, batch_size: day, begin: \"2035-01-01\"}
",
    );
    let report = world.try_build(&crate::run::BuildOptions::default()).await;
    let error = report.node("m").unwrap().error.as_ref().unwrap();
    assert_eq!(
        error.to_string(),
        "a microbatch model has no batch yet, model=`m`, begin=`2035-01-01T00:00:00Z`, now=`2025-04-08T00:00:00Z`"
    );
    assert_eq!(error.location().unwrap().to_string().rsplit('/').next(), Some("m.yml:2:5"));
    assert!(error.hint().unwrap().contains("`begin`"));
}

#[tokio::test]
async fn a_time_that_holds_no_batch_is_told() {
    let world = World::new();
    world.write("models/m.sql", "select _key, event_at from {{ source('shop', 'events') }}");
    world.write(
        "models/m.yml",
        "models:
  - name: m
    config: {materialized: incremental, incremental_strategy: microbatch, event_time: event_at, batch_size: day, begin: \"2025-03-01\"}
",
    );
    let day_us = super::world::DAY_US;
    let start_us = super::world::START_US;
    for (range, asked) in [
        ((start_us - 30 * day_us, start_us - 20 * day_us), "2025-02-07T00:00:00Z to 2025-02-17T00:00:00Z"),
        ((start_us + 40 * day_us, start_us + 41 * day_us), "2025-04-18T00:00:00Z to 2025-04-19T00:00:00Z"),
    ] {
        let event_time = Some(crate::plan::TimeRange { start_us: range.0, end_us: range.1 });
        let plan = crate::plan::PlanOptions { event_time, ..crate::plan::PlanOptions::default() };
        let report = world.try_build(&crate::run::BuildOptions { plan, ..crate::run::BuildOptions::default() }).await;
        let error = report.node("m").unwrap().error.as_ref().unwrap();
        assert_eq!(
            error.to_string(),
            format!(
                "the time asked for holds no batch, model=`m`, asked=`{asked}`, batches=`2025-03-01T00:00:00Z to 2025-04-08T00:00:00Z`"
            )
        );
        assert_eq!(error.location().unwrap().to_string().rsplit('/').next(), Some("m.yml:2:5"));
        assert!(!world.versions().await.contains_key("models/main/m"));
    }
}

#[tokio::test]
async fn variables_that_lead_to_each_other_are_told() {
    let told = world(&[
        ("models/a.sql", "select {{ var('a') }} as x"),
        ("dbt_project.yml", "name: shop\nvars: {a: \"{{ var('b') }}\", b: \"{{ var('a') }}\"}\n"),
    ])
    .faults()
    .await;
    assert!(told.contains("variables lead to each other in a circle"), "{told}");
}
