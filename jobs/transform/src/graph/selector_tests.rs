//! dbt's methods, indirect selection, YAML selectors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::{Facts, Graph, Indirect, Selection};
use crate::project::NodeId;
use crate::project::tests::{faults, folder, load};
use crate::{LoadOptions, load_project};

const FILES: [(&str, &str); 12] = [
    ("dbt_project.yml", "name: shop\nmodels: {shop: {marts: {+materialized: table}}}"),
    (
        "models/staging/_s__sources.yml",
        "sources: [{name: s, tables: [{name: t, columns: [{name: id, data_tests: [unique]}]}]}]",
    ),
    ("models/staging/stg_t.sql", "select * from {{ source('s', 't') }}"),
    (
        "models/staging/web/stg_w.sql",
        "{{ config(meta={'owner': 'ann'}, unique_key=['a', 'b']) }} select 1 as a, 2 as b",
    ),
    ("models/marts/orders.sql", "select * from {{ ref('stg_t') }}"),
    ("models/marts/people.sql", "select * from {{ ref('stg_w') }}"),
    (
        "models/marts/_marts.yml",
        "models:\n\
         \x20 - {name: orders, access: public, group: money, columns: [{name: id, data_tests: [not_null, {relationships: {to: ref('people'), field: a}}]}]}\n\
         \x20 - {name: people, columns: [{name: a, data_tests: [not_null: {config: {severity: warn}}]}]}\n\
         groups: [{name: money, owner: {name: Ann}}]\n\
         exposures: [{name: board, type: dashboard, owner: {name: Bob}, depends_on: [ref('orders')], tags: [weekly]}]",
    ),
    ("tests/no_orphans.sql", "select * from {{ ref('orders') }} where false"),
    ("seeds/codes.csv", "code\nx\n"),
    ("seeds/codes.yml", "seeds: [{name: codes}]"),
    (
        "selectors.yml",
        "selectors:\n\
         \x20 - {name: money, definition: 'group:money'}\n\
         \x20 - name: nightly\n\
         \x20   definition:\n\
         \x20     union:\n\
         \x20       - {method: fqn, value: stg_t, children: true, children_depth: 1}\n\
         \x20       - intersection: [{tag: weekly}, {resource_type: exposure}]\n\
         \x20       - exclude: [{method: test_type, value: singular}]\n\
         \x20 - {name: around, definition: {method: selector, value: money, exclude: ['test_name:relationships']}}\n\
         \x20 - {name: circle, definition: {method: selector, value: circle}}\n\
         \x20 - {name: odd, definition: {method: tgas, value: x}}\n",
    ),
    ("models/marts/unused.sql", "{{ config(materialized='view') }} select 1 as a"),
];

fn names(graph: &Graph, selection: &Selection) -> String {
    let selected = graph.resolve(selection).unwrap();
    let mut names: Vec<String> = selected.nodes.iter().map(NodeId::name).collect();
    names.sort();
    names.join(" ")
}

fn selection(text: &str) -> Selection {
    Selection { select: vec![text.to_owned()], ..Selection::default() }
}

#[test]
fn methods_are_dbts() {
    let graph = Graph::build(&load(&FILES)).unwrap();
    let mut text = String::new();
    for selector in [
        "shop.staging",
        "staging.web",
        "shop.*.stg_w",
        "marts.ord*",
        "path:models/staging",
        "path:models/marts/_marts.yml",
        "path:models/*/*.sql",
        "file:stg_w.sql",
        "stg_w.sql",
        "package:shop,resource_type:seed",
        "config.materialized:view",
        "config.materialized:table,config.enabled:true",
        "config.meta.owner:ann",
        "config.unique_key:b",
        "config.severity:warn",
        "test_type:singular",
        "test_type:generic,source:s",
        "orders,test_type:generic",
        "test_name:not_null",
        "access:public",
        "access:protected,marts",
        "group:money",
        "exposure:board",
        "+exposure:*",
        "exposure:shop.board",
        "version:none,marts",
        "version:latest",
        "source:shop.s.t",
        "resource_type:exposure",
    ] {
        writeln!(
            text,
            "{selector}: {}",
            names(&graph, &Selection { indirect: Indirect::Empty, ..selection(selector) })
        )
        .unwrap();
    }
    insta::assert_snapshot!(text, @"
    shop.staging: source_unique_s_t_id stg_t stg_w
    staging.web: stg_w
    shop.*.stg_w: stg_w
    marts.ord*: orders
    path:models/staging: s.t source_unique_s_t_id stg_t stg_w
    path:models/marts/_marts.yml: board not_null_orders_id not_null_people_a orders people relationships_orders_id__ref__people____a
    path:models/*/*.sql: orders people stg_t unused
    file:stg_w.sql: stg_w
    stg_w.sql: stg_w
    package:shop,resource_type:seed: codes
    config.materialized:view: stg_t stg_w unused
    config.materialized:table,config.enabled:true: orders people
    config.meta.owner:ann: stg_w
    config.unique_key:b: stg_w
    config.severity:warn: not_null_people_a
    test_type:singular: no_orphans
    test_type:generic,source:s: 
    orders,test_type:generic: 
    test_name:not_null: not_null_orders_id not_null_people_a
    access:public: orders
    access:protected,marts: people unused
    group:money: orders
    exposure:board: board
    +exposure:*: board orders s.t stg_t
    exposure:shop.board: board
    version:none,marts: orders people unused
    version:latest: 
    source:shop.s.t: s.t
    resource_type:exposure: board
    ");
}

#[test]
fn tests_come_along_as_asked() {
    let graph = Graph::build(&load(&FILES)).unwrap();
    let mut text = String::new();
    for (word, selector) in [
        ("eager", "orders"),
        ("cautious", "orders"),
        ("cautious", "orders people"),
        ("buildable", "orders"),
        ("empty", "orders people"),
        ("eager", "orders,test_type:generic"),
    ] {
        let indirect = Indirect::parse(word).unwrap();
        writeln!(text, "{word} {selector}: {}", names(&graph, &Selection { indirect, ..selection(selector) })).unwrap();
    }
    insta::assert_snapshot!(text, @"
    eager orders: no_orphans not_null_orders_id orders relationships_orders_id__ref__people____a
    cautious orders: no_orphans not_null_orders_id orders
    cautious orders people: no_orphans not_null_orders_id not_null_people_a orders people relationships_orders_id__ref__people____a
    buildable orders: no_orphans not_null_orders_id orders
    empty orders people: orders people
    eager orders,test_type:generic: not_null_orders_id relationships_orders_id__ref__people____a
    ");
}

#[test]
fn kinds_narrow_a_selection() {
    let graph = Graph::build(&load(&FILES)).unwrap();
    let only = Selection { resource_types: vec!["seed".to_owned(), "exposure".to_owned()], ..Selection::default() };
    assert_eq!(names(&graph, &only), "board codes");
    let without = Selection {
        exclude_resource_types: ["test", "model", "source"].map(str::to_owned).to_vec(),
        ..Selection::default()
    };
    assert_eq!(names(&graph, &without), "board codes");
}

#[test]
fn yaml_selectors_join_intersect_and_exclude() {
    let graph = Graph::build(&load(&FILES)).unwrap();
    let named = |name: &str| Selection { selector: Some(name.to_owned()), ..Selection::default() };
    let mut text = String::new();
    for name in ["money", "nightly", "around"] {
        writeln!(text, "{name}: {}", names(&graph, &named(name))).unwrap();
    }
    for name in ["mony", "circle", "odd"] {
        let error = graph.resolve(&named(name)).unwrap_err();
        let told = faults(std::path::Path::new("none"), &error);
        writeln!(text, "{name}: {}", told.rsplit("/selectors.yml").next().unwrap().trim_end()).unwrap();
    }
    insta::assert_snapshot!(text, @"
    money: no_orphans not_null_orders_id orders relationships_orders_id__ref__people____a
    nightly: board not_null_orders_id orders relationships_orders_id__ref__people____a stg_t
    around: no_orphans not_null_orders_id orders
    mony: TM0305 : no selector of that name in selectors.yml, selector=`mony`
      hint: did you mean `money`?
    circle: :10:5: selectors lead to each other in a circle, selector=`circle`
    odd: TM0305 : unknown selector method, method=`tgas`, selector=`tgas:x`
      hint: did you mean `tag`?
    ");
}

#[test]
fn a_default_selector_holds_when_nothing_is_selected() {
    let files = [
        ("models/a.sql", "select 1 as x"),
        ("models/b.sql", "select 1 as x"),
        ("selectors.yml", "selectors: [{name: mine, default: true, definition: b}]"),
    ];
    let graph = Graph::build(&load(&files)).unwrap();
    assert_eq!(names(&graph, &Selection::default()), "b");
    assert_eq!(names(&graph, &selection("a")), "a");
}

#[test]
fn facts_of_earlier_runs_select() {
    let graph = Graph::build(&load(&FILES)).unwrap();
    let orders = BTreeSet::from([NodeId::Model("orders".to_owned())]);
    let facts = Facts {
        state: Some(BTreeMap::from([("modified".to_owned(), orders.clone())])),
        results: Some(BTreeMap::from([("error".to_owned(), orders)])),
        fresher: Some(BTreeSet::new()),
    };
    let with = |text: &str| Selection { facts: Arc::new(facts.clone()), indirect: Indirect::Empty, ..selection(text) };
    assert_eq!(names(&graph, &with("state:modified")), "orders");
    assert_eq!(names(&graph, &with("1+result:error")), "orders stg_t");
    assert_eq!(names(&graph, &with("state:new source_status:fresher+")), "");
}

#[test]
fn exposures_and_selectors_that_are_wrong_say_where() {
    let dir = folder(&[
        ("models/a.sql", "select 1 as x"),
        (
            "models/a.yml",
            "exposures:\n\
             \x20 - {name: e, type: dashbord, owner: {name: x}, depends_on: [orders]}\n\
             \x20 - {name: f, owner: {name: x}}\n\
             sources:\n\
             \x20 - {name: s, freshness: {warn_after: {count: 1, perod: hour}}, tables: [{name: t}]}\n",
        ),
        (
            "selectors.yml",
            "selectors:\n  - {name: x}\n  - {name: y, definition: {union: []}}\n  - {name: z, definition: {metod: tag, value: v}}\n",
        ),
    ]);
    let error = load_project(dir.path(), LoadOptions::default()).unwrap_err();
    insta::assert_snapshot!(faults(dir.path(), &error), @"
    TM0313 models/a.yml:2:21: value is not known, key=`type`, value=`dashbord`
      hint: did you mean `dashboard`?
    TM0313 models/a.yml:2:62: an exposure depends on refs and sources, depends_on=`orders`
      hint: write it like ref('orders') or source('shop', 'orders')
    TM0314 models/a.yml:3:5: key is missing, key=`type`
    TM0314 models/a.yml:5:27: an age needs a count and a period, key=`warn_after`
      hint: write it like {count: 12, period: hour}
    TM0312 models/a.yml:5:50: unknown key, key=`perod`, in=`warn_after`
      hint: did you mean `period`?
    TM0314 selectors.yml:2:5: a selector needs a `name` and a `definition`
    TM0314 selectors.yml:3:35: a union or intersection needs members
    TM0314 selectors.yml:4:27: a definition needs a `method` and a `value`
    TM0312 selectors.yml:4:28: unknown key, key=`metod`, in=`definition`
      hint: did you mean `method`?
    ");
}
