//! Templates in, SQL or faults out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::json;
use tidemill_project::{Diagnostic, SourceName};

use super::{PlainRelations, RenderContext, Renderer, SharedRelations};
use crate::project::{
    BatchWindow, EnvVars, MacroFile, Model, ModelConfig, Project, RefCall, SourceTable, Target, Uses,
};

/// A project of the models named, one source, and macro files.
fn project(macros: &[(&str, &str)]) -> Project {
    let mut models = IndexMap::new();
    for name in ["orders", "customers"] {
        let mut config = ModelConfig { schema: Some("marts".to_owned()), ..ModelConfig::default() };
        config.raw.insert("owner".to_owned(), json!("finance"));
        let model = Model {
            name: name.to_owned(),
            package: "shop".to_owned(),
            path: PathBuf::from(format!("models/{name}.sql")),
            raw_sql: String::new(),
            config,
            uses: Uses::default(),
            columns: IndexMap::new(),
            constraints: Vec::new(),
            description: String::new(),
            location: tidemill_project::Location::new(format!("models/{name}.sql"), 1, 1),
        };
        models.insert(name.to_owned(), model);
    }
    let source = SourceTable {
        name: SourceName::new("shop", "events"),
        columns: IndexMap::new(),
        loaded_at_field: None,
        event_time: None,
        has_contract: true,
        tags: Vec::new(),
        meta: serde_json::Map::new(),
        description: String::new(),
        location: tidemill_project::Location::new("models/_shop__sources.yml", 1, 1),
    };
    Project {
        name: "shop".to_owned(),
        root: PathBuf::new(),
        vars: json!({"grace_s": 900, "zone": "UTC"}).as_object().cloned().unwrap(),
        env: EnvVars(BTreeMap::from([("REGION".to_owned(), "eu".to_owned())])),
        target: Target::default(),
        models,
        seeds: IndexMap::new(),
        sources: IndexMap::from([(source.name.clone(), source)]),
        generic_tests: Vec::new(),
        singular_tests: Vec::new(),
        unit_tests: Vec::new(),
        scenario_tests: Vec::new(),
        macros: macros
            .iter()
            .map(|(path, text)| MacroFile { package: "shop".to_owned(), path: path.into(), text: (*text).to_owned() })
            .collect(),
        packages: Vec::new(),
        latest_versions: BTreeMap::new(),
        dispatch: BTreeMap::new(),
        docs: BTreeMap::new(),
        on_run_start: Vec::new(),
        on_run_end: Vec::new(),
        strict: false,
        notes: Vec::new(),
        disabled: Vec::new(),
        extras: crate::project::Extras::default(),
    }
}

fn relations() -> SharedRelations {
    Arc::new(PlainRelations::default())
}

fn render_with(macros: &[(&str, &str)], text: &str, context: &RenderContext) -> Result<String, String> {
    let mut project = project(macros);
    project.models["orders"].raw_sql = text.to_owned();
    let renderer = Renderer::new(&project).map_err(|error| explain(&error))?;
    renderer.model(&project.models["orders"], context, &relations()).map_err(|error| explain(&error))
}

fn render(macros: &[(&str, &str)], text: &str) -> Result<String, String> {
    render_with(macros, text, &RenderContext::default())
}

fn explain(error: &crate::Error) -> String {
    let place = error.location().map(ToString::to_string).unwrap_or_default();
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("{error}\n  --> {place}{hint}")
}

#[test]
fn refs_and_sources_become_relations() {
    let sql = render(
        &[],
        "select * from {{ ref('customers') }}, {{ ref('shop', 'orders') }}, {{ source('shop', 'events') }}",
    );
    insta::assert_snapshot!(sql.unwrap(), @"select * from main.customers, main.orders, shop.events");
}

#[test]
fn macros_of_all_files_see_each_other() {
    let macros = [
        ("macros/a.sql", "{% macro outer(column, scale=2) %}round({{ inner(column) }}, {{ scale }}){% endmacro %}"),
        ("macros/b.sql", "{% macro inner(column) %}{{ column }} / {{ var('grace_s') }}{% endmacro %}"),
    ];
    let sql = render(&macros, "select {{ outer('amount') }}, {{ outer('amount', scale=0) }}, {{ shop.outer('x') }}");
    insta::assert_snapshot!(sql.unwrap(), @"select round(amount / 900, 2), round(amount / 900, 0), round(x / 900, 2)");
}

#[test]
fn a_macro_may_return_more_than_text() {
    let macros = [(
        "macros/lists.sql",
        "{% macro regions() %}ignored{{ return(['eu', 'us']) }}{% endmacro %}
         {% macro first_region() %}{% do return(regions()[0]) %}{% endmacro %}",
    )];
    let sql = render(&macros, "{% for r in regions() %}{{ loop.index }}={{ r }} {% endfor %}{{ first_region() }}");
    insta::assert_snapshot!(sql.unwrap(), @"1=eu 2=us eu");
}

#[test]
fn a_call_block_reaches_its_macro() {
    let macros = [("macros/wrap.sql", "{% macro wrap(name) %}with {{ name }} as ({{ caller() }}){% endmacro %}")];
    let sql = render(&macros, "{% call wrap('t') %}select {{ ref('customers') }}{% endcall %}");
    insta::assert_snapshot!(sql.unwrap(), @"with t as (select main.customers)");
}

#[test]
fn the_context_is_dbts() {
    let text = "{{ config(materialized='table') }}{{ this }} {{ this.identifier }} {{ target.name }} {{ model.name }} \
        {{ execute }} {{ env_var('REGION') }} {{ env_var('NONE', 'x') }} {{ var('zone') }} {{ var('none', 7) }} \
        {{ config.get('owner') }} {{ config.get('none', 'y') }} {% set a = ' b ' %}{{ a.strip().upper() }} \
        {{ tojson({'k': [1, none]}) }}{% if is_incremental() %} incremental{% endif %}";
    insta::assert_snapshot!(render(&[], text).unwrap(), @r#"main.orders orders local orders True eu x UTC 7 finance y B {"k":[1,null]}"#);
}

#[test]
fn a_batch_and_watermarks_come_from_the_run() {
    let context = RenderContext {
        incremental: true,
        batch: Some(BatchWindow { start_us: 0, end_us: 3_600_000_000 }),
        watermarks: BTreeMap::from([(SourceName::new("shop", "events"), 1_500_000)]),
        as_of_us: 2_000_000,
        vars: json!({"grace_s": 1}).as_object().cloned().unwrap(),
        ..RenderContext::default()
    };
    let text = "{% if is_incremental() %}{{ model.batch.event_time_start }} {{ model.batch.event_time_end }}{% endif %}
{{ watermark('shop.events') }}
{{ as_of() }}
{{ run_started_at }} {{ var('grace_s') }}";
    insta::assert_snapshot!(render_with(&[], text, &context).unwrap(), @r#"
    1970-01-01T00:00:00.000000Z 1970-01-01T01:00:00.000000Z
    arrow_cast(1500000, 'Timestamp(Microsecond, Some("UTC"))')
    arrow_cast(2000000, 'Timestamp(Microsecond, Some("UTC"))')
    1970-01-01T00:00:02.000000Z 1
    "#);
    let unknown = render(&[], "{{ watermark('shop.events') }}").unwrap();
    insta::assert_snapshot!(unknown, @r#"arrow_cast(null, 'Timestamp(Microsecond, Some("UTC"))')"#);
}

#[test]
fn the_parse_pass_sees_both_branches_of_is_incremental() {
    let renderer = Renderer::new(&project(&[])).unwrap();
    let text = "{{ config(materialized='incremental', tags=['a']) }}select * from {{ ref('customers') }}
        {% if is_incremental() %}where t > (select max(t) from {{ this }}) and {{ ref('orders') }}{% endif %}
        -- depends_on: {{ source('shop', 'events') }}
        {{ watermark('shop.events') }} {{ var('grace_s') }}";
    let uses = renderer.parse("shop", "m", Path::new("models/m.sql"), text).unwrap();
    let names: Vec<&RefCall> = uses.refs.iter().collect();
    assert_eq!(names.iter().map(|call| call.name.as_str()).collect::<Vec<_>>(), ["customers", "orders"]);
    assert_eq!(uses.sources, [SourceName::new("shop", "events")]);
    assert_eq!(uses.watermarks, [SourceName::new("shop", "events")]);
    assert_eq!(uses.vars, ["grace_s"]);
    assert_eq!(json!(uses.config), json!({"materialized": "incremental", "tags": ["a"]}));
}

#[test]
fn a_missing_ref_suggests_the_nearest() {
    insta::assert_snapshot!(render(&[], "select *\nfrom {{ ref('custmers') }}").unwrap_err(), @r"
    no model, seed or snapshot of that name, ref=`custmers`, in=`orders`
      --> models/orders.sql:2:9
    hint: did you mean `customers`?
    ");
    insta::assert_snapshot!(render(&[], "{{ source('shop', 'event') }}").unwrap_err(), @"
    no source of that name, source=`shop.event`, in=`orders`
      --> models/orders.sql:1:4
    hint: did you mean `shop.events`?
    ");
}

#[test]
fn an_error_in_a_macro_shows_file_line_and_stack() {
    let macros = [
        ("macros/a.sql", "\n{% macro outer() %}\n  {{ inner() }}\n{% endmacro %}"),
        ("macros/b.sql", "{% macro inner() %}\n\n{{ exceptions.raise_compiler_error('no such unit') }}{% endmacro %}"),
    ];
    insta::assert_snapshot!(render(&macros, "select\n    {{ outer() }}").unwrap_err(), @"
    no such unit, in=`orders`
      --> macros/b.sql:3:1
    hint: in macro `inner`, called by macro `outer` at macros/a.sql:3:1, called at models/orders.sql:2:8
    ");
}

#[test]
fn what_is_misspelt_is_suggested() {
    insta::assert_snapshot!(render(&[], "{{ tumble_strat('a', 10) }}").unwrap_err(), @"
    macro is not known, name=`tumble_strat`, in=`orders`
      --> models/orders.sql:1:4
    hint: did you mean `tumble_start`?
    ");
    insta::assert_snapshot!(render(&[], "{{ var('grace') }}").unwrap_err(), @"
    variable is not set, var=`grace`, in=`orders`
      --> models/orders.sql:1:4
    hint: did you mean `grace_s`?
    ");
    insta::assert_snapshot!(render(&[], "select {{ nothing }}").unwrap_err(), @"
    `nothing` is undefined, in=`orders`
      --> models/orders.sql:1:11
    ");
}

#[test]
fn broken_jinja_shows_where() {
    insta::assert_snapshot!(render(&[], "select 1\n{% if %}").unwrap_err(), @"
    syntax error: unexpected end of block, in=`orders`
      --> models/orders.sql:2:7
    ");
    insta::assert_snapshot!(render(&[("macros/a.sql", "\n{% macro a( %}")], "select 1").unwrap_err(), @r"
    syntax error: unexpected `%`, expected identifier
      --> macros/a.sql:2:1
    hint: in macro `a`
    ");
}

#[test]
fn windows_are_macros() {
    insta::assert_snapshot!(render(&[], "{{ tumble_start('event_at', 10) }}\n{{ tumble_end('t', 10) }}\n{{ hop_starts('t', 60, 30) }}").unwrap(), @"
    date_bin(interval '10 seconds', event_at, to_timestamp_micros(0))
    (date_bin(interval '10 seconds', t, to_timestamp_micros(0)) + interval '10 seconds')
    make_array(date_bin(interval '30 seconds', t, to_timestamp_micros(0)) - interval '30 seconds', date_bin(interval '30 seconds', t, to_timestamp_micros(0)) - interval '0 seconds')
    ");
    insta::assert_snapshot!(render(&[], "{{ hop_starts('t', 60, 25) }}").unwrap_err(), @"
    hop_starts: size must be a multiple of slide, size=`60`, slide=`25`, in=`orders`
      --> tidemill/time.sql:19:1
    hint: in macro `hop_starts`, called at models/orders.sql:1:4
    ");
}

#[test]
fn methods_of_python_work() {
    let text = "{{ 'a,b'.split(',') }} {{ ', '.join(['x', 'y']) }} {{ 'ab'.startswith('a') }} {{ 'order_id'.replace('_id', '') }}
{% for key, value in {'k': 1}.items() %}{{ key }}={{ value }}{% endfor %} {{ {'k': 1}.get('z', 7) }} {{ {'k': 1}.keys() | list }}
{{ '{}-{}'.format(1, 2) }} {{ 'hello world'.title() }} {{ [3, 4].index(4) }}";
    insta::assert_snapshot!(render(&[], text).unwrap(), @"
    ['a', 'b'] x, y True order
    k=1 7 ['k']
    1-2 Hello World 1
    ");
    assert_eq!(render(&[], "{% set l = [] %}{% do l.append(1) %}{{ l }}").unwrap(), "[1]");
}

#[test]
fn dispatch_finds_the_macro_for_this_engine_first() {
    let macros = [(
        "macros/d.sql",
        "{% macro default__kind() %}default{% endmacro %}{% macro tidemill__kind() %}own{% endmacro %}
         {% macro kind() %}{{ return(adapter.dispatch('kind', 'shop')()) }}{% endmacro %}",
    )];
    insta::assert_snapshot!(render(&macros, "{{ kind() }}").unwrap(), @"own");
}

#[test]
fn configs_that_are_required_must_be_there() {
    insta::assert_snapshot!(render(&[], "{{ config.require('owner') }}").unwrap(), @"finance");
    insta::assert_snapshot!(render(&[], "\n{{ config.require('ownr') }}").unwrap_err(), @"
    config is missing, key=`ownr`, in=`orders`
      --> models/orders.sql:2:10
    ");
}
