//! Bad projects: each fault with its file, line and column, before anything runs.

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
        ("models/a.sql", "{{ config(materialized='table') }}\n\nselect\n    order_id,\n    usr_id\nfrom {{ ref('orders') }}"),
        ("models/b.sql", "{% set columns = ['order_id', 'nothing_like_it'] %}\nselect {% for c in columns %}\n  {{ c }}{{ ',' if not loop.last }}{% endfor %}\nfrom {{ ref('orders') }}"),
        ("models/c.sql", "select\n  order_id\nfrom {{ ref('orders') }} as a\njoin {{ ref('orders') }} as b on a.user_id = b.user_id"),
        ("models/d.sql", "select o.order_id,\n       o.amount || upper(o.ordered_at - o.amount) as x\nfrom {{ ref('orders') }} as o"),
        ("models/e.sql", "select order_id,\nfrom where {{ ref('orders') }}"),
        ("models/f.sql", "select no_such_function(order_id) from {{ ref('orders') }}"),
        ("macros/m.sql", "{% macro m(column) %}coalesce({{ column }}, 0){% endmacro %}"),
        ("models/g.sql", "select\n  {{- m('amont') }} as amount\nfrom {{ ref('orders') }}"),
        ("models/h.sql", "select * from {{ ref('g') }}"),
    ]);
    insta::assert_snapshot!(world.faults().await, @"");
    // Nothing was built.
    assert!(world.versions().await.is_empty());
}

#[tokio::test]
async fn what_yaml_promises_is_held_against_the_sql() {
    let world = world(&[
        ("models/m.sql", "{{ config(materialized='table', contract={'enforced': true}) }}select order_id, amount, ordered_at, 1 as more from {{ ref('orders') }}"),
        (
            "models/m.yml",
            "models:
  - name: m
    columns:
      - {name: order_id, data_type: varchar}
      - {name: amount}
      - {name: ordered_at, data_type: timestamp}
      - {name: order_date, data_type: date}
  - name: n
    columns:
      - {name: ordr_id, description: A slip.}
      - {name: stale, description: Long gone.}
      - {name: tested_and_gone, data_tests: [not_null]}
",
        ),
        ("models/n.sql", "select order_id from {{ ref('orders') }}"),
    ]);
    insta::assert_snapshot!(world.faults().await, @"");
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
        (vec![("models/a.sql", "select * from {{ ref('b') }}"), ("models/b.sql", "select * from {{ ref('a') }}")], "cycle"),
        (vec![("models/a.sql", "select * from\n  {{ ref('ordres') }}")], "ref"),
        (vec![("models/a.sql", "select 1"), ("models/x/a.sql", "select 2")], "twice"),
        (vec![("models/a.sql", "select {{ 1 + }}")], "jinja"),
        (vec![("models/a.yml", "models:\n  - name: a\n   columns: []")], "yaml"),
        (vec![("packages.yml", "packages:\n  - local: ../nowhere\n")], "package"),
        (vec![("models/a.sql", "{{ config(materialized='my_own') }}select 1")], "materialization"),
        (vec![("models/a.sql", "{{ config(materialized='table', uniqe_key='id') }}select 1")], "config"),
        (vec![("models/a.py", "def model(dbt, session): pass")], "python"),
        (vec![("models/a.sql", "{{ dbt_expectations.expect(1) }}")], "package of a macro"),
        (vec![("snapshots/s.sql", "{% snapshot s %}{{ config(strategy='timestamp') }}select 1 as id{% endsnapshot %}")], "snapshot"),
        (vec![("seeds/ragged.csv", "a,b\n1,2\n3\n")], "ragged"),
        (vec![("models/a.sql", "{{ config(materialized='table') }}-- nothing\n")], "nothing"),
        (vec![("models/a.yml", "models: [{name: a, description: \"{{ doc('order') }}\"}]"), ("models/a.sql", "select 1 as x"), ("models/d.md", "{% docs orders %}x{% enddocs %}")], "docs"),
    ] {
        let told = world(&files).faults().await;
        seen.push_str(&format!("-- {wanted}\n{told}"));
    }
    insta::assert_snapshot!(seen, @"");
}
