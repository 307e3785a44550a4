//! What projects of others use beyond the usual, each in its smallest case.

use crate::project::NodeId;

use super::world::World;

#[tokio::test]
async fn times_are_added_and_compared_as_in_python() {
    let world = World::new();
    world.write(
        "macros/days.sql",
        "{% macro days_between(first, last) %}
         {% set first = modules.datetime.datetime.strptime(first, '%Y-%m-%d') %}
         {% set last = modules.datetime.datetime.strptime(last, '%Y-%m-%d') %}
         {% set found = [] %}
         {% for n in range((last - first).days + 1) %}
         {% do found.append((first + modules.datetime.timedelta(days=n)).strftime('%m%d')) if first <= last %}
         {% endfor %}
         {{ return(found) }}
         {% endmacro %}",
    );
    world.write(
        "models/m.sql",
        "{% set before = (run_started_at - modules.datetime.timedelta(days=1, hours=2)).strftime('%Y-%m-%d %H:%M') %}
         select '{{ before }}' as before, '{{ days_between('2024-02-28', '2024-03-01') | join('+') }}' as days,
            {{ 'true' if run_started_at > modules.datetime.datetime(2000, 1, 1) else 'false' }} as is_later,
            {{ 10 - 2 + 1 }} as number",
    );
    world.build().await;
    assert_eq!(world.rows("select * from m").await, ["2025-04-06 22:00 | 0228+0229+0301 | true | 9"]);
}

#[tokio::test]
async fn filters_and_functions_answer_as_dbts() {
    let world = World::new();
    // A variable is a template, too.
    world.write(
        "dbt_project.yml",
        "name: shop\nvars: {depth: '{{ 9 if target.name else 4 }}', codes: \"{{ ref('codes') }}\"}\n",
    );
    world.write("seeds/codes.csv", "code\na\n");
    world.write(
        "models/v.sql",
        "select code, {{ var('depth') | int + 1 }} as depth, {{ set(['b', 'a']) == set(['a', 'b', 'a']) }} as is_one from {{ var('codes') }}
            {%- if var('nobody_sets', none) is not none or var('nor_this', default=none) %} where false {% endif %}",
    );
    // A macro that stands in for dbt's own, and asks that one.
    world.write("macros/own.sql", "{% macro is_incremental() %}{{ return(dbt.is_incremental()) }}{% endmacro %}");
    world.write(
        "models/m.sql",
        "{{ config(materialized='table') }}
         select {{ 'abc' | int }} as zero, {{ '7' | int }} as seven, {{ 'x' | int(default=5) }} as five, {{ 'x' | float }} as none,
            {{ 1 if is_incremental() else 0 }} as built, '{{ generate_schema_name('raw') }}' as named,
            '{{ generate_schema_name() }}' as plain",
    );
    world.build().await;
    assert_eq!(world.rows("select * from m").await, ["0 | 7 | 5 | 0.0 | 0 | raw | main"]);
    assert_eq!(world.rows("select * from v").await, ["a | 10 | true"]);
}

#[tokio::test]
async fn tests_of_packages_see_the_variables_of_their_package() {
    let world = World::new();
    world.write("packages.yml", "packages:\n  - local: vendor/numbers\n");
    world.write("vendor/numbers/dbt_project.yml", "name: numbers\nvars: {numbers: {top: 3}}\n");
    world.write("vendor/numbers/models/numbers.sql", "select 3 as n");
    world.write(
        "vendor/numbers/models/numbers.yml",
        "models: [{name: numbers, columns: [{name: n, data_tests: [is_at_most_top]}]}]",
    );
    world.write(
        "vendor/numbers/macros/t.sql",
        "{% test is_at_most_top(model, column_name) %}select * from {{ model }} where {{ column_name }} > {{ var('top') }}{% endtest %}",
    );
    world.write("vendor/numbers/tests/also.sql", "select 1 where {{ var('top') }} > 3");
    world.write("models/mine.sql", "select * from {{ ref('numbers') }}");
    world.build().await;
    let runner = world.runner();
    let package = |node: &NodeId| runner.graph().get(node).unwrap().traits.package.clone();
    assert_eq!(package(&NodeId::Model("numbers".to_owned())), "numbers");
    assert_eq!(package(&NodeId::Test("also".to_owned())), "numbers");
    assert_eq!(package(&NodeId::Model("mine".to_owned())), "shop");
}

#[tokio::test]
async fn the_graph_tells_templates_what_the_manifest_says() {
    let world = World::new();
    world.write("seeds/codes.csv", "code\na\n");
    world.write("models/a.sql", "select code from {{ ref('codes') }}");
    world.write(
        "models/a.yml",
        "models: [{name: a, columns: [{name: code, config: {meta: {rule: 'code is not null'}}, data_tests: [not_null]}]}]",
    );
    world.write(
        "models/m.sql",
        "{% set found = [] %}{% if execute %}{% set node = graph.nodes['model.shop.a'] %}
         {% do node.columns.update({'more': 1}) %}{% do found.extend([node.columns.code.config.meta.rule, node.depends_on.nodes[0], node.config.materialized]) %}
         {% for test in graph.nodes.values() | selectattr('resource_type', 'equalto', 'test') %}
         {% do found.append(test.test_metadata.name ~ ':' ~ test.column_name) %}{% endfor %}
         {% do found.append(graph.sources.values() | map(attribute='source_name') | unique | join) %}{% endif %}
         select '{{ found | join('; ') }}' as told",
    );
    world.build().await;
    assert_eq!(world.rows("select * from m").await, ["code is not null; seed.shop.codes; view; not_null:code; shop"]);
}

#[tokio::test]
async fn the_latest_version_may_stand_in_a_file_of_the_models_name() {
    let world = World::new();
    world.write("models/dim_v1.sql", "select 1 as version");
    world.write("models/dim.sql", "select 2 as version");
    world.write(
        "models/dim.yml",
        "models: [{name: dim, latest_version: 2, columns: [{name: version, data_tests: [not_null]}], versions: [{v: 1}, {v: 2}]}]",
    );
    world.write("models/r.sql", "select a.version as a, b.version as b, c.version as c from {{ ref('dim') }} as a, {{ ref('dim', v=2) }} as b, {{ ref('dim', v=1) }} as c");
    world.build().await;
    assert_eq!(world.rows("select * from r").await, ["2 | 2 | 1"]);
    let runner = world.runner();
    let version = |name: &str| runner.graph().get(&NodeId::Model(name.to_owned())).unwrap().traits.version;
    assert_eq!((version("dim"), version("dim_v1"), version("r")), (Some("latest"), Some("old"), None));
}

#[tokio::test]
async fn rows_that_end_in_an_empty_field_may_leave_more_of_them_out() {
    let world = World::new();
    world.write("seeds/visits.csv", "id,source,medium,campaign\n1,google,cpc,spring\n2,direct,\n3,bing,search,\n");
    world.build().await;
    assert_eq!(
        world.rows("select id, source, coalesce(medium, '-'), coalesce(campaign, '-') from visits").await,
        ["1 | google | cpc | spring", "2 | direct | - | -", "3 | bing | search | -"]
    );
}

#[tokio::test]
async fn a_column_that_is_described_twice_is_a_note() {
    let world = World::new();
    world.write("models/m.sql", "select 1 as a");
    world.write("models/m.yml", "models: [{name: m, columns: [{name: a}, {name: a, data_tests: [not_null]}]}]");
    world.build().await;
    let notes: Vec<String> = world.runner().project().notes.iter().map(|note| note.message.clone()).collect();
    assert_eq!(notes, ["column is described twice, column=`a`"]);
}

#[tokio::test]
async fn templates_may_ask_which_tables_there_are() {
    let world = World::new();
    world.write("seeds/events_2023.csv", "id\n1\n");
    world.write("seeds/events_2024.csv", "id\n2\n");
    world.write(
        "models/events.sql",
        "-- depends_on: {{ ref('events_2023') }} {{ ref('events_2024') }}
         {% set rows = run_query(\"select table_name, count(*) as columns from \" ~ this.information_schema('columns')
            ~ \" where table_schema = '\" ~ target.schema ~ \"' and table_name like 'events%' group by 1 order by 1\") %}
         select '{% if execute %}{% for row in rows %}{{ row.table_name }}:{{ row.columns }} {% endfor %}{% endif %}' as found",
    );
    world.build().await;
    assert_eq!(world.rows("select * from events").await, ["events_2023:1 events_2024:1 "]);
}
