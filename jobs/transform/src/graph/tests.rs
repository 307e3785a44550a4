//! Edges, cycles, selectors.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::{Graph, Selection};
use crate::project::tests::{faults, folder, load};
use crate::project::{LoadOptions, NodeId, load_project};

const FILES: [(&str, &str); 8] = [
    ("models/staging/_s__sources.yml", "sources: [{name: s, tables: [{name: t}, {name: u}]}]"),
    ("models/staging/stg_t.sql", "{{ config(tags=['fast']) }} select * from {{ source('s', 't') }}"),
    ("models/staging/stg_u.sql", "select * from {{ source('s', 'u') }}"),
    ("models/marts/a.sql", "{{ config(tags=['nightly']) }} select * from {{ ref('stg_t') }}"),
    ("models/marts/b.sql", "{{ config(tags=['nightly', 'fast']) }} select * from {{ ref('a') }}, {{ ref('stg_u') }}"),
    ("models/marts/c.sql", "select * from {{ ref('b') }}, {{ ref('codes') }}"),
    ("models/marts/marts.yml", "models: [{name: a, columns: [{name: id, data_tests: [unique]}]}]"),
    ("seeds/codes.csv", "code\nx\n"),
];

fn select(select: &[&str], exclude: &[&str]) -> String {
    let graph = Graph::build(&load(&FILES)).unwrap();
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let nodes =
        graph.select(&Selection { select: owned(select), exclude: owned(exclude), ..Selection::default() }).unwrap();
    let names: Vec<String> = nodes.iter().map(NodeId::name).collect();
    names.join(" ")
}

#[test]
fn parents_come_first_and_the_order_is_always_the_same() {
    insta::assert_snapshot!(select(&[], &[]), @"s.t s.u codes stg_t a stg_u b c unique_a_id");
}

#[test]
fn selectors_are_dbts() {
    let cases: [(&[&str], &[&str]); 19] = [
        (&["a"], &[]),
        (&["+a"], &[]),
        (&["a+"], &[]),
        (&["1+b"], &[]),
        (&["2+b"], &[]),
        (&["stg_t+1"], &[]),
        (&["@a"], &[]),
        (&["tag:fast"], &[]),
        (&["tag:fast,tag:nightly"], &[]),
        (&["tag:fast tag:nightly"], &[]),
        (&["a", "c"], &[]),
        (&["source:s.t+"], &[]),
        (&["source:s"], &[]),
        (&["models/staging"], &[]),
        (&["path:models/marts/c.sql"], &[]),
        (&["staging"], &[]),
        (&["stg_*"], &[]),
        (&["+c"], &["stg_u", "resource_type:source"]),
        (&["unique_a_id"], &[]),
    ];
    let mut text = String::new();
    for (chosen, exclude) in cases {
        let not = if exclude.is_empty() { String::new() } else { format!(" except {}", exclude.join(" ")) };
        writeln!(text, "{}{not}: {}", chosen.join(" "), select(chosen, exclude)).unwrap();
    }
    insta::assert_snapshot!(text, @"
    a: a unique_a_id
    +a: s.t stg_t a unique_a_id
    a+: a b c unique_a_id
    1+b: a stg_u b unique_a_id
    2+b: s.u stg_t a stg_u b unique_a_id
    stg_t+1: stg_t a unique_a_id
    @a: s.t s.u codes stg_t a stg_u b c unique_a_id
    tag:fast: stg_t b
    tag:fast,tag:nightly: b
    tag:fast tag:nightly: stg_t a b unique_a_id
    a c: a c unique_a_id
    source:s.t+: s.t stg_t a b c unique_a_id
    source:s: s.t s.u
    models/staging: s.t s.u stg_t stg_u
    path:models/marts/c.sql: c
    staging: stg_t stg_u
    stg_*: stg_t stg_u
    +c except stg_u resource_type:source: codes stg_t a b c unique_a_id
    unique_a_id: unique_a_id
    ");
}

#[test]
fn selectors_that_match_nothing_suggest_what_is_there() {
    let graph = Graph::build(&load(&FILES)).unwrap();
    let selection = Selection {
        select: ["stg_x tag:nihgtly", "source:s.tt", "exposure:dash"].map(str::to_owned).to_vec(),
        ..Selection::default()
    };
    let selected = graph.resolve(&selection).unwrap();
    assert_eq!(selected.nodes, []);
    let told: Vec<String> = selected
        .warnings
        .iter()
        .map(|fault| format!("{}: {}", fault.message, fault.hint.clone().unwrap_or_default()))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    selector matches nothing, selector=`stg_x`: did you mean `stg_t`?
    selector matches nothing, selector=`tag:nihgtly`: did you mean `nightly`?
    selector matches nothing, selector=`source:s.tt`: did you mean `s.t`?
    selector matches nothing, selector=`exposure:dash`: `tidemill ls` lists what there is
    ");
}

#[test]
fn selectors_that_cannot_be_read_suggest_the_nearest_word() {
    let graph = Graph::build(&load(&FILES)).unwrap();
    let words = [
        "tga:fast",
        "@a+",
        "+",
        "config:x",
        "resource_type:modle",
        "test_type:genric",
        "state:modifed",
        "state:new",
        "result:eror",
        "result:error",
        "source_status:fresher",
        "99999999999999999999+a",
    ];
    let selection = Selection { select: words.map(str::to_owned).to_vec(), ..Selection::default() };
    let error = graph.resolve(&selection).unwrap_err();
    insta::assert_snapshot!(faults(std::path::Path::new("none"), &error), @"
    TM0305 : unknown selector method, method=`tga`, selector=`tga:fast`
      hint: did you mean `tag`?
    TM0305 : `@` cannot be combined with `+`, selector=`@a+`
    TM0305 : selector names nothing, selector=`+`
    TM0305 : `config` needs a key, selector=`config:x`
      hint: write it like config.materialized:incremental
    TM0305 : unknown resource type, type=`modle`, selector=`resource_type:modle`
      hint: did you mean `model`?
    TM0305 : unknown test type, type=`genric`, selector=`test_type:genric`
      hint: did you mean `generic`?
    TM0305 : unknown state, state=`modifed`, selector=`state:modifed`
      hint: did you mean `modified`?
    TM0307 : selector needs a manifest to compare with, selector=`state:new`
      hint: name the folder of an earlier manifest.json: --state DIR
    TM0305 : unknown result, result=`eror`, selector=`result:eror`
      hint: did you mean `error`?
    TM0307 : selector needs results of an earlier run, selector=`result:error`
      hint: name the folder of an earlier run_results.json: --state DIR
    TM0307 : selector needs two sources.json to compare, selector=`source_status:fresher`
      hint: run `tidemill source-freshness`, and name the folder of an earlier sources.json: --state DIR
    TM0305 : depth is too large, selector=`99999999999999999999+a`
    ");
}

fn faults_of(files: &[(&str, &str)]) -> String {
    let dir = folder(files);
    let project = load_project(dir.path(), LoadOptions::default()).unwrap();
    faults(dir.path(), &Graph::build(&project).unwrap_err())
}

#[test]
fn refs_that_lead_nowhere_are_all_told() {
    let text = faults_of(&[
        ("dbt_project.yml", "name: shop"),
        (
            "models/orders.sql",
            "select *\nfrom {{ ref('custmers') }}, {{ ref('off') }}\n, {{ source('s', 'x') }}, {{ source('s', 'off') }}",
        ),
        ("models/customers.sql", "select * from {{ ref('other', 'orders') }}"),
        ("models/off.sql", "{{ config(enabled=false) }} select 1"),
        ("models/_s__sources.yml", "sources: [{name: s, tables: [{name: xs}, {name: off, config: {enabled: false}}]}]"),
        (
            "models/orders.yml",
            "models: [{name: orders, columns: [{name: a, data_tests: [{relationships: {to: ref('nope'), field: a}}]}]}]",
        ),
    ]);
    insta::assert_snapshot!(text, @"
    TM0301 models/customers.sql:1:32: no model or seed of that name, ref=`orders`, in=`customers`
      hint: there is no package `other`; this project is `shop`
    TM0301 models/orders.sql:2:14: no model or seed of that name, ref=`custmers`, in=`orders`
      hint: did you mean `customers`?
    TM0301 models/orders.sql:2:37: no model or seed of that name, ref=`off`, in=`orders`
      hint: `off` is there and switched off; remove `enabled: false`
    TM0302 models/orders.sql:3:19: no source of that name, source=`s.x`, in=`orders`
      hint: did you mean `s.xs`?
    TM0302 models/orders.sql:3:43: no source of that name, source=`s.off`, in=`orders`
      hint: `s.off` is there and switched off; switch it on, or `orders` off with it
    TM0301 models/orders.yml:1:58: no model or seed of that name, ref=`nope`, in=`relationships_orders_a__ref__nope____a`
    ");
}

#[test]
fn configuration_about_inputs_names_inputs() {
    let text = faults_of(&[
        ("models/_s__sources.yml", "sources: [{name: s, tables: [{name: t}]}]"),
        ("models/a.sql", "select * from {{ source('s', 't') }}"),
        (
            "models/a.yml",
            "models:\n  - name: a\n    config:\n      meta: {tidemill: {watermark: {sources: [s.tt]}, context: {s.tx: {before: 1h}}}}",
        ),
    ]);
    insta::assert_snapshot!(text, @"
    TM0302 models/a.yml:2:5: no source of that name, source=`s.tt`, in=`watermark`
      hint: did you mean `s.t`?
    TM0306 models/a.yml:2:5: the model has no such input, input=`s.tx`, in=`context`
      hint: did you mean `s.t`?
    ");
}

#[test]
fn a_cycle_is_shown_with_its_files() {
    let text = faults_of(&[
        ("models/a.sql", "select * from {{ ref('c') }}"),
        ("models/b.sql", "select * from {{ ref('a') }}"),
        ("models/c.sql", "select * from {{ ref('b') }}"),
        ("models/below.sql", "select * from {{ ref('c') }}"),
        ("models/own.sql", "select * from {{ ref('own') }}"),
    ]);
    insta::assert_snapshot!(text, @"
    TM0303 models/a.sql:1:1: models form a cycle, path=`a -> b -> c -> a`
      hint: one of these files must stop reading the one before it: models/a.sql, models/b.sql, models/c.sql
    TM0303 models/own.sql:1:1: models form a cycle, path=`own -> own`
      hint: one of these files must stop reading the one before it: models/own.sql
    ");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever the edges of a graph without cycles, each node stands behind all of its parents, and the closure upwards of a
    /// node is the mirror of the closure downwards.
    #[test]
    fn order_respects_edges(edges in prop::collection::vec((0_usize..12, 0_usize..12), 0..40)) {
        let files: Vec<(String, String)> = (0..12)
            .map(|node| {
                let mut refs = String::new();
                for (parent, _) in edges.iter().filter(|(parent, child)| *child == node && *parent < node) {
                    write!(refs, "{{{{ ref('m{parent}') }}}} ").unwrap();
                }
                (format!("models/m{node}.sql"), format!("select {refs}"))
            })
            .collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let graph = Graph::build(&load(&files)).unwrap();
        let order: Vec<&NodeId> = graph.order().collect();
        prop_assert_eq!(order.len(), 12);
        for (id, node) in graph.nodes() {
            let at = order.iter().position(|other| *other == id);
            for parent in &node.parents {
                prop_assert!(order.iter().position(|other| *other == parent) < at);
            }
            for above in graph.ancestors(id, None) {
                prop_assert!(graph.descendants(&above, None).contains(id));
            }
        }
    }
}
