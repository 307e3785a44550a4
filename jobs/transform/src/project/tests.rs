//! Projects in a folder in, data or faults out.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use tidemill_project::{Diagnostic, Fault};

use super::{LoadOptions, NodeId, Project, Storage, Strategy, load_project};
use crate::Error;

/// A folder with these files.
pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

pub(crate) fn load(files: &[(&str, &str)]) -> Project {
    let dir = folder(files);
    load_project(dir.path(), LoadOptions::default()).unwrap_or_else(|error| panic!("{}", faults(dir.path(), &error)))
}

/// What a reader of the terminal learns, without the temporary folder.
pub(crate) fn faults(dir: &Path, error: &Error) -> String {
    let mut text = String::new();
    let single = Fault {
        code: error.code(),
        message: error.to_string(),
        location: error.location().cloned(),
        hint: error.hint(),
    };
    let all = if error.faults().is_empty() { std::slice::from_ref(&single) } else { error.faults() };
    for fault in all {
        let code = fault.code.map(|code| code.to_string()).unwrap_or_default();
        let place = fault.location.as_ref().map(ToString::to_string).unwrap_or_default();
        writeln!(text, "{code} {place}: {}", fault.message).unwrap();
        if let Some(hint) = &fault.hint {
            writeln!(text, "  hint: {hint}").unwrap();
        }
    }
    text.replace(&format!("{}/", dir.display()), "")
}

fn faults_of(files: &[(&str, &str)]) -> String {
    let dir = folder(files);
    let error = load_project(dir.path(), LoadOptions::default()).expect_err("the project has faults");
    faults(dir.path(), &error)
}

const PROJECT: &str = "
name: shop
version: '1.0'
config-version: 2
vars:
  grace_s: 10
  shop:
    zone: UTC
models:
  +tags: [all]
  shop:
    marts:
      +materialized: table
      +meta: {owner: finance, tidemill: {}}
      daily:
        +schema: daily
        +tags: nightly
";

const SOURCES: &str = "
sources:
  - name: shop
    tables:
      - name: events
        loaded_at_field: _ingested_at
        config: {meta: {tidemill: {topics: [events], grace: \"{{ var('grace_s') }}\"}}}
        columns:
          - name: event_id
            data_type: text
            data_tests: [not_null]
";

const FCT: &str = "
models:
  - name: fct_orders
    description: Orders. One row per `order_id`.
    config:
      materialized: incremental
      incremental_strategy: microbatch
      event_time: ordered_at
      batch_size: hour
      begin: '2024-01-01'
      lookback: 2
      unique_key: order_id
      meta:
        tidemill:
          context: {before: 14h, after: 30m, stg_events: {before: unbounded}}
          watermark: {sources: [shop.events], due_after: \"{{ var('grace_s') }}\"}
          publish:
            - to: snowflake
              table: SHOP.MARTS.ORDERS
              columns: {order_id: ORDER_ID, ordered_at: ORDERED_AT}
              cluster_by: [\"to_date(ordered_at)\"]
            - {to: kafka, topic: orders, key: order_id, emit: on_final, where: \"amount > 0\"}
            - {to: redis, key: 'orders:{order_id}', ttl: 7d}
    columns:
      - name: order_id
        data_type: bigint
        description: Key.
        data_tests:
          - unique
          - not_null: {config: {severity: warn, where: 'amount > 0'}}
      - name: status
        data_tests:
          - accepted_values:
              arguments: {values: [placed, shipped]}
          - relationships: {to: ref('statuses'), field: status}
";

const FILES: [(&str, &str); 9] = [
    ("dbt_project.yml", PROJECT),
    ("models/staging/_shop__sources.yml", SOURCES),
    ("models/staging/stg_events.sql", "select * from {{ source('shop', 'events') }}"),
    ("models/marts/daily/fct_orders.yml", FCT),
    (
        "models/marts/daily/fct_orders.sql",
        "{{ config(tags=['own'], lookback=3) }}\nselect {{ cents('amount') }} from {{ ref('stg_events') }}",
    ),
    ("seeds/statuses.csv", "status\nplaced\n"),
    ("seeds/seeds.yml", "seeds: [{name: statuses, config: {column_types: {status: text}}}]"),
    ("macros/money.sql", "{% macro cents(column) %}round({{ column }} * 100){% endmacro %}"),
    (
        "tests/no_negative_orders.sql",
        "{{ config(severity='warn') }}select * from {{ ref('fct_orders') }} where amount < 0",
    ),
];

#[test]
fn a_project_is_read_whole() {
    let project = load(&FILES);
    assert_eq!(project.models.keys().collect::<Vec<_>>(), ["fct_orders", "stg_events"]);
    assert_eq!(project.vars["zone"], json!("UTC"));
    let model = &project.models["fct_orders"];
    assert_eq!(model.config.storage(), Storage::Incremental(Strategy::Microbatch));
    let mut config = serde_json::to_value(&model.config).unwrap();
    config["raw"] = json!(null);
    config["meta"] = json!(config["meta"]["owner"]);
    let mut text = String::new();
    for (key, value) in config.as_object().unwrap().iter().filter(|(_, value)| !value.is_null()) {
        writeln!(text, "{key}: {value}").unwrap();
    }
    insta::assert_snapshot!(text, @r#"
    materialized: "incremental"
    incremental_strategy: "microbatch"
    event_time: "ordered_at"
    batch_size: "hour"
    begin_us: 1704067200000000
    lookback: 3
    context: {"default":{"before":{"bounded":{"secs":50400,"nanos":0}},"after":{"bounded":{"secs":1800,"nanos":0}}},"inputs":{"stg_events":{"before":"unbounded","after":{"bounded":{"secs":0,"nanos":0}}}}}
    unique_key: ["order_id"]
    schema: "daily"
    tags: ["all","nightly","own"]
    enabled: true
    contract_enforced: false
    pre_hooks: []
    post_hooks: []
    meta: "finance"
    publish: [{"to":"snowflake","table":"SHOP.MARTS.ORDERS","unique_key":["order_id"],"strategy":"merge","columns":{"order_id":"ORDER_ID","ordered_at":"ORDERED_AT"},"json_columns":[],"cluster_by":["to_date(ordered_at)"],"topic":null,"key":null,"fields":{},"emit":"on_change","window_end":null,"ttl":null,"filter":null,"enabled":true},{"to":"kafka","table":null,"unique_key":["order_id"],"strategy":"merge","columns":{},"json_columns":[],"cluster_by":[],"topic":"orders","key":"order_id","fields":{},"emit":"on_final","window_end":null,"ttl":null,"filter":"amount > 0","enabled":true},{"to":"redis","table":null,"unique_key":["order_id"],"strategy":"merge","columns":{},"json_columns":[],"cluster_by":[],"topic":null,"key":"orders:{order_id}","fields":{},"emit":"on_change","window_end":null,"ttl":{"secs":604800,"nanos":0},"filter":null,"enabled":true}]
    watermark: {"sources":[{"source":"shop","table":"events"}],"due_after":{"secs":10,"nanos":0}}
    keyed: {"touched_by":{},"latest_by":[],"deleted":null,"deletion_is_final":false,"merge_update_columns":[],"merge_exclude_columns":[],"partition_by":[]}
    audit_before: false
    "#);
    let source = project.sources.values().next().unwrap();
    assert!(source.has_contract);
    assert_eq!(source.event_time.as_deref(), Some("event_at"));
    assert_eq!(project.seeds["statuses"].column_types["status"], "text");
}

#[test]
fn tests_get_dbts_names_and_know_what_they_read() {
    let project = load(&FILES);
    let mut text = String::new();
    for test in &project.generic_tests {
        let refs: Vec<&str> = test.uses.refs.iter().map(|call| call.name.as_str()).collect();
        writeln!(text, "{} on {} {:?} reads {refs:?}", test.name, test.attached_to, test.config.severity).unwrap();
    }
    for test in &project.singular_tests {
        writeln!(text, "{} {:?}", test.name, test.config.severity).unwrap();
    }
    insta::assert_snapshot!(text, @r#"
    unique_fct_orders_order_id on model.fct_orders Error reads []
    not_null_fct_orders_order_id on model.fct_orders Warn reads []
    accepted_values_fct_orders_status__placed__shipped on model.fct_orders Error reads []
    relationships_fct_orders_status__ref__statuses____status on model.fct_orders Error reads ["statuses"]
    source_not_null_shop_events_event_id on source.shop.events Error reads []
    no_negative_orders Warn
    "#);
}

#[test]
fn the_file_wins_over_yaml_and_yaml_over_folders() {
    let files = [
        (
            "dbt_project.yml",
            "name: p\nmodels: {p: {+materialized: table, +schema: folder, +alias: folder, +tags: [a]}}",
        ),
        ("models/m.yml", "models: [{name: m, config: {schema: yaml, alias: yaml, tags: b}}]"),
        ("models/m.sql", "{{ config(alias='file', tags=['c']) }} select 1"),
    ];
    let config = &load(&files).models["m"].config;
    assert_eq!(config.storage(), Storage::Table);
    assert_eq!(config.schema.as_deref(), Some("yaml"));
    assert_eq!(config.alias.as_deref(), Some("file"));
    assert_eq!(config.tags, ["a", "b", "c"]);
}

#[test]
fn a_published_view_is_stored() {
    let publish =
        "models: [{name: m, config: {meta: {tidemill: {publish: [{to: local, table: a.b.c, unique_key: id}]}}}}]";
    let load = |sql: &str| load(&[("models/m.yml", publish), ("models/m.sql", sql)]).models["m"].config.storage();
    assert_eq!(load("select 1"), Storage::Table);
    let batched = "{{ config(event_time='t', batch_size='day') }} select 1";
    assert_eq!(load(batched), Storage::Incremental(Strategy::Microbatch));
}

#[test]
fn what_is_switched_off_is_not_there() {
    let files = [
        ("models/on.sql", "select 1"),
        ("models/off.sql", "{{ config(enabled=false) }} select 1"),
        ("models/off.yml", "models: [{name: off, columns: [{name: a, data_tests: [not_null]}]}]"),
    ];
    let project = load(&files);
    assert_eq!(project.models.keys().collect::<Vec<_>>(), ["on"]);
    assert_eq!(project.disabled, ["off"]);
    assert_eq!(project.generic_tests.len(), 0);
}

#[test]
fn a_variable_switches_a_source_its_models_and_the_stories_about_them() {
    let files = [
        (
            "dbt_project.yml",
            "name: p\nvars: {shop_enabled: false}\nmodels: {p: {+enabled: \"{{ var('shop_enabled') }}\"}}",
        ),
        ("models/m.sql", "select * from {{ source('shop', 'orders') }}"),
        (
            "models/sources.yml",
            "sources: [{name: shop, tables: [{name: orders, config: {enabled: \"{{ var('shop_enabled') }}\"}}]}]",
        ),
        (
            "tests/stories.yml",
            "scenario_tests:\n- {name: of_model, steps: [{expect: {m: []}}]}\n\
             - {name: of_source, steps: [{rows: {shop.orders: [{id: 1}]}}]}",
        ),
    ];
    let dir = folder(&files);
    let load = |is_on: bool| {
        let vars = json!({"shop_enabled": is_on}).as_object().cloned().unwrap();
        load_project(dir.path(), LoadOptions { vars, ..LoadOptions::default() }).unwrap()
    };
    let (off, on) = (load(false), load(true));
    assert_eq!(off.disabled, ["m", "shop.orders"]);
    assert_eq!((off.models.len(), off.sources.len(), off.scenario_tests.len()), (0, 0, 0));
    assert_eq!((on.models.len(), on.sources.len(), on.scenario_tests.len()), (1, 1, 2));
}

#[test]
fn overrides_of_variables_reach_yaml_and_folders() {
    let files = [
        ("dbt_project.yml", "name: p\nvars: {kind: view}\nmodels: {p: {+materialized: \"{{ var('kind') }}\"}}"),
        ("models/m.sql", "select 1"),
    ];
    let dir = folder(&files);
    let vars = json!({"kind": "table"}).as_object().cloned().unwrap();
    let project = load_project(dir.path(), LoadOptions { vars, ..LoadOptions::default() }).unwrap();
    assert_eq!(project.models["m"].config.storage(), Storage::Table);
}

#[test]
fn custom_tests_are_macros_of_the_project() {
    let files = [
        ("models/m.sql", "select 1 as a"),
        ("models/m.yml", "models: [{name: m, columns: [{name: a, data_tests: [{is_even: {config: {tags: [x]}}}]}]}]"),
        ("tests/generic/is_even.sql", "{% test is_even(model, column_name) %}select * from {{ model }}{% endtest %}"),
    ];
    let project = load(&files);
    assert_eq!(project.generic_tests[0].attached_to, NodeId::Model("m".to_owned()));
    assert_eq!(project.generic_tests[0].config.tags, ["x"]);
    assert_eq!(project.singular_tests.len(), 0);
}

#[test]
fn all_faults_of_all_files_are_told_at_once() {
    let files = [
        ("dbt_project.yml", "name: p\nmodel-path: [models]\n"),
        (
            "models/a.yml",
            "models:
  - name: a
    descripton: x
    config:
      materialized: tabel
      batch_size: dya
      begin: soon
      uniqe_key: id
      meta:
        tidemill:
          watermark: {sources: [events]}
          publish:
            - {to: snowflak, table: x}
            - {to: kafka, emit: on_change}
    columns:
      - name: id
        data_tests:
          - not_nul
          - unique:
              config: {severty: warn}
  - name: aa
",
        ),
        ("models/a.sql", "select {{ nothing.there }}"),
        ("models/b.sql", "{{ config(incremental_strategy='microbatch', materialized='incremental') }}\nselect 1"),
        ("models/sub/b.sql", "select 2"),
        ("models/broken.yml", "models: [\n  {name: x\n"),
    ];
    insta::assert_snapshot!(faults_of(&files), @r"
    TM0312 dbt_project.yml:2:1: unknown key, key=`model-path`, in=`dbt_project.yml`
      hint: did you mean `model-paths`?
    TM0321 models/a.sql:1:11: `nothing` is undefined, in=`a`
    TM0312 models/a.yml:3:5: unknown key, key=`descripton`, in=`model`
      hint: did you mean `description`?
    TM0313 models/a.yml:5:21: value is not known, key=`materialized`, value=`tabel`
      hint: did you mean `table`?
    TM0313 models/a.yml:6:19: value is not known, key=`batch_size`, value=`dya`
      hint: did you mean `day`?
    TM0311 models/a.yml:7:14: value has the wrong type, key=`begin`, wanted=`date or timestamp, UTC`, found=`text`
    TM0312 models/a.yml:8:7: unknown key, key=`uniqe_key`, in=`config`
      hint: did you mean `unique_key`?
    TM0313 models/a.yml:11:32: source is not `source.table`, value=`events`
    TM0313 models/a.yml:13:20: value is not known, key=`to`, value=`snowflak`
      hint: did you mean `snowflake`?
    TM0314 models/a.yml:14:15: key is missing, key=`topic`, in=`publish`
    TM0314 models/a.yml:14:15: key is missing, key=`unique_key`, in=`publish`
    TM0322 models/a.yml:18:13: no generic test of that name, test=`not_nul`
      hint: did you mean `not_null`?
    TM0312 models/a.yml:20:24: unknown key, key=`severty`, in=`test config`
      hint: did you mean `severity`?
    TM0316 models/a.yml:21:5: model has no file, name=`aa`
      hint: did you mean `a`?
    TM0314 models/b.sql:1:1: a microbatch model needs a key, key=`event_time`
    TM0314 models/b.sql:1:1: a microbatch model needs a key, key=`batch_size`
    TM0310 models/broken.yml:3:1: file is not YAML, because=`while parsing a flow mapping, did not find expected ',' or '}'`
    TM0315 models/sub/b.sql:1:1: two files give one name, name=`b`, other=`models/b.sql`
    ");
}

#[test]
fn macros_that_do_not_parse_are_all_told() {
    let files = [
        ("macros/a.sql", "{% macro a() %}\n{% if %}\n{% endmacro %}"),
        ("macros/b.sql", "{% macro b( %}"),
        ("models/m.sql", "select 1"),
    ];
    insta::assert_snapshot!(faults_of(&files), @r"
    TM0321 macros/a.sql:2:1: syntax error: unexpected end of block
      hint: in macro `a`
    TM0321 macros/b.sql:1:1: syntax error: unexpected `%`, expected identifier
      hint: in macro `b`
    ");
}

#[test]
fn durations_are_read_in_the_forms_that_people_write() {
    let seconds = |text: &str| super::yaml::parse_duration(text).map(|duration| duration.as_secs_f64());
    assert_eq!(seconds("900"), Some(900.0));
    assert_eq!(seconds("1h30m"), Some(5400.0));
    assert_eq!(seconds("14 hours"), Some(50400.0));
    assert_eq!(seconds("250ms"), Some(0.25));
    assert_eq!(seconds("7d"), Some(604_800.0));
    for text in ["", "h", "5x", "1h x", "-5"] {
        assert_eq!(seconds(text), None, "{text}");
    }
}

#[test]
fn the_shipped_project_is_whole() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dbt-like-models");
    let project = load_project(&dir, LoadOptions::default()).unwrap_or_else(|error| panic!("{}", faults(&dir, &error)));
    let graph = crate::graph::Graph::build(&project).unwrap_or_else(|error| panic!("{}", faults(&dir, &error)));
    let renderer = crate::render::Renderer::new(&project).unwrap();
    let relations: crate::render::SharedRelations = std::sync::Arc::new(crate::render::PlainRelations::default());
    let context = crate::render::RenderContext::default();
    for model in project.models.values() {
        let sql =
            renderer.model(model, &context, &relations).unwrap_or_else(|error| panic!("{}", faults(&dir, &error)));
        assert!(!sql.contains("{{"), "{}", model.name);
    }
    for test in &project.generic_tests {
        renderer.generic_test(test, &context, &relations).unwrap_or_else(|error| panic!("{}", faults(&dir, &error)));
    }
    assert_eq!(graph.order().filter(|id| matches!(id, NodeId::Model(_))).count(), project.models.len());
}

#[test]
fn folder_configs_of_a_misspelt_project_are_not_passed_over() {
    let files =
        [("dbt_project.yml", "name: shop\nmodels:\n  shp:\n    +materialized: table\n  dbt_utils: {+enabled: false}")];
    insta::assert_snapshot!(faults_of(&files), @"
    TM0312 dbt_project.yml:3:3: configuration is for another project, name=`shp`
      hint: did you mean `shop`?
    ");
}

#[test]
fn a_folder_that_is_not_there_is_a_fault() {
    let error = load_project(Path::new("nowhere/at/all"), LoadOptions::default()).unwrap_err();
    insta::assert_snapshot!(faults(Path::new("x"), &error), @"TM0317 nowhere/at/all:1:1: the folder of the models project is not there");
}

#[test]
fn yaml_that_calls_for_what_is_not_set_shows_where() {
    let files = [
        ("models/m.sql", "select 1"),
        (
            "models/m.yml",
            "models:\n  - name: m\n    config:\n      schema: \"{{ env_var('NO_SUCH') }}\"\n      alias: \"{{ var('x') }}\"",
        ),
    ];
    insta::assert_snapshot!(faults_of(&files), @"
    TM0320 models/m.yml:4:15: environment variable is not set, name=`NO_SUCH`
    TM0320 models/m.yml:5:14: variable is not set, var=`x`
      hint: add it to `vars:` of dbt_project.yml, or give a default: var('x', ...)
    ");
}
