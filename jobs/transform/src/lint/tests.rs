//! Rules find what they look for, and nothing in a project that follows them.

use std::fmt::Write as _;

use super::{RULES, lint};
use crate::graph::{Graph, Selection};
use crate::project::tests::{faults, folder};
use crate::{LoadOptions, load_project};

fn findings(files: &[(&str, &str)], off: &[&str]) -> String {
    let dir = folder(files);
    let project = load_project(dir.path(), LoadOptions::default()).unwrap();
    let graph = Graph::build(&project).unwrap();
    let off: Vec<String> = off.iter().map(|rule| (*rule).to_owned()).collect();
    match lint(&project, &graph, &Selection::all(), &off) {
        Ok(findings) => findings.iter().fold(String::new(), |mut text, finding| {
            writeln!(text, "{}: {} {}", finding.location, finding.rule.id, finding.message).unwrap();
            text
        }),
        Err(error) => faults(dir.path(), &error),
    }
}

const SLOPPY: [(&str, &str); 5] = [
    ("models/staging/_s.yml", "sources: [{name: s, tables: [{name: t}, {name: u}]}]"),
    (
        "models/staging/Events.sql",
        "select * from {{ source('s', 't') }} as t\njoin {{ source('s', 'u') }} as u on t.id = u.id\n",
    ),
    (
        "models/intermediate/joined.sql",
        "select id from {{ ref('Events') }} RIGHT JOIN main.other USING (id)\nunion\nselect 1 as id group by 1",
    ),
    (
        "models/marts/orders.sql",
        "-- SELECT in a comment, 'UNION' in a text\nselect *, case when a = 'else' then 1 end as b, 'a text that makes this line very long indeed, longer than eighty columns'\nfrom {{ source('s', 't') }}\n",
    ),
    ("models/other/orders.yml", "models: [{name: orders, description: Orders., columns: [{name: orderId}]}]"),
];

#[test]
fn each_rule_points_to_the_place() {
    insta::assert_snapshot!(findings(&SLOPPY, &[]), @"
    models/intermediate/joined.sql:1:1: TL004 joined is not named like int_<entities>_<verbed>
    models/intermediate/joined.sql:1:1: TL008 joined has no description
    models/intermediate/joined.sql:1:1: TL023 nothing reads joined
    models/intermediate/joined.sql:1:36: TL013 keyword RIGHT is not lower case
    models/intermediate/joined.sql:1:36: TL015 turn it round: a left join reads from left to right
    models/intermediate/joined.sql:1:47: TL022 main.other is named directly
    models/intermediate/joined.sql:2:1: TL016 a bare union drops duplicates silently
    models/intermediate/joined.sql:3:16: TL018 grouped by position
    models/marts/orders.sql:1:1: TL005 orders begins with neither fct_ nor dim_
    models/marts/orders.sql:2:1: TL007 select * hides which columns are used
    models/marts/orders.sql:2:11: TL019 rows that no `when` takes become null
    models/marts/orders.sql:2:81: TL014 the line has 122 columns
    models/marts/orders.sql:3:9: TL001 orders reads source s.t; read a staging model instead
    models/other/orders.yml:1:10: TL010 nothing tests the key of orders
    models/other/orders.yml:1:10: TL011 orders lies elsewhere: models/marts/orders.sql
    models/other/orders.yml:1:10: TL012 the description of orders does not say `one row per …`
    models/other/orders.yml:1:57: TL006 column orderId is not lower case with underscores
    models/other/orders.yml:1:57: TL009 column orderId of orders has no description
    models/staging/Events.sql:1:1: TL002 Events reads 2 inputs
    models/staging/Events.sql:1:1: TL004 Events is not named like stg_<source>__<entities>
    models/staging/Events.sql:1:1: TL006 Events is not lower case with underscores
    models/staging/Events.sql:1:1: TL008 Events has no description
    models/staging/Events.sql:2:1: TL017 the join does not say its kind
    models/staging/_s.yml:1:30: TL020 source s.t has no description
    models/staging/_s.yml:1:41: TL020 source s.u has no description
    ");
}

#[test]
fn rules_can_be_left_out() {
    let all: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(findings(&SLOPPY, &all), "");
    let mut files = SLOPPY.to_vec();
    files.push(("dbt_project.yml", "name: shop\nvars: {lint_off: [snake-case, TL001, TL002, TL004]}"));
    let quiet = findings(&files, &["TL005,TL007"]);
    assert!(["TL001", "TL002", "TL004", "TL005", "TL006", "TL007"].iter().all(|rule| !quiet.contains(rule)), "{quiet}");
    files[3].1 = "{# lint: off TL007, mart-name, TL001 #}\nselect * from {{ source('s', 't') }}";
    let quiet = findings(&files, &[]);
    assert!(!quiet.lines().any(|line| line.starts_with("models/marts/orders.sql")), "{quiet}");
    insta::assert_snapshot!(findings(&SLOPPY, &["TL99", "selct-star"]), @"
    TM0313 : no lint rule of that name, rule=`TL99`
      hint: did you mean `TL009`?
    TM0313 : no lint rule of that name, rule=`selct-star`
      hint: did you mean `select-star`?
    ");
}

#[test]
fn a_project_by_the_book_has_no_findings() {
    let files = [
        (
            "models/staging/shop/_shop__sources.yml",
            "sources: [{name: shop, tables: [{name: orders, description: Orders.}]}]",
        ),
        (
            "models/staging/shop/stg_shop__orders.sql",
            "with\n\nsource as (\n    select * from {{ source('shop', 'orders') }}\n),\n\nfinal as (\n    select id, kind from source\n)\n\nselect * from final\n",
        ),
        (
            "models/staging/shop/stg_shop__orders.yml",
            "models: [{name: stg_shop__orders, description: Orders as they came.}]",
        ),
        (
            "models/marts/orders/fct_orders.sql",
            "with\n\norders as (\n    select id, kind from {{ ref('stg_shop__orders') }}\n),\n\nfinal as (\n    select\n        id,\n        case when kind = 'x' then 1 else 0 end as is_x\n    from orders\n)\n\nselect * from final\n",
        ),
        (
            "models/marts/orders/fct_orders.yml",
            "models:\n  - name: fct_orders\n    description: Orders. One row per `id`.\n    columns: [{name: id, description: The order., data_tests: [unique]}]\n",
        ),
    ];
    assert_eq!(findings(&files, &[]), "");
}
