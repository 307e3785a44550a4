//! Projects of the shape that public ones have, unmodified but for their size: no settings, no contract, words of other
//! warehouses, packages in folders.

use super::world::World;

fn shop() -> World {
    let world = World::new();
    world.write("models/_shop__sources.yml", "version: 2\n");
    world.write(
        "dbt_project.yml",
        "name: 'acme'
config-version: 2
version: '1.0'
profile: 'playbook'
require-dbt-version: ['>=1.0.0', '<2.0.0']
source-paths: ['models']
data-paths: ['data']
target-path: 'target'
clean-targets: [target, dbt_modules, logs]
vars: {'dbt_date:time_zone': America/Los_Angeles}
quoting: {database: false, identifier: false}
dbt-cloud: {project-id: 1}
seeds: {quote_columns: false}
models:
  acme:
    materialized: table
    +docs: {node_color: gold}
    staging: {materialized: view}
  transient: true
on-run-end: \"{{ grant_select(['a', 'b']) }}\"
",
    );
    world.write("profiles.yml", "playbook: {target: dev}\n");
    world.write(
        "data/RAW_ORDERS.csv",
        "ID,USER_ID,ORDER_DATE,STATUS\n1,1,2018-01-01,returned\n2,3,2018-01-02,completed\n3,1,2018-02-04,completed\n",
    );
    world.write(
        "data/raw_payments.csv",
        "id,order_id,payment_method,amount\n1,1,credit_card,1000\n2,2,coupon,2000\n3,3,gift card,100\n",
    );
    world.write("macros/grant.sql", "{% macro grant_select(schemas) %}{% for s in schemas %}grant select on schema {{ s }} to role x;{% endfor %}{% endmacro %}");
    world.write("macros/money.sql", "{% macro cents(column) -%}{{ return(adapter.dispatch('cents')(column)) }}{%- endmacro %}\n{% macro default__cents(column) -%}({{ column }} / 100)::numeric(16, 2){%- endmacro %}\n{% macro bigquery__cents(column) %}no{% endmacro %}");
    world.write("models/staging/stg_orders.sql", "with source as (\n    {#- as it came -#}\n    select * from {{ ref('RAW_ORDERS') }}\n)\nselect id as order_id, user_id as customer_id, order_date, status from source");
    world.write("models/staging/stg_payments.sql", "select id as payment_id, order_id, payment_method, {{ cents('amount') }} as amount from {{ ref('raw_payments') }}");
    world.write(
        "models/orders.sql",
        "{% set methods = dbt_utils.get_column_values(ref('stg_payments'), 'payment_method', order_by='payment_method') %}
with paid as (
    select order_id, {% for method in methods -%}
    sum(case when payment_method = '{{ method }}' then amount else 0 end) as {{ dbt_utils.slugify(method) }}_amount,
    {% endfor %} sum(amount) as total
    from {{ ref('stg_payments') }} group by 1
)
select {{ dbt_utils.surrogate_key('orders.order_id', 'status') }} as id, orders.*, paid.total,
    {{ dbt.date_trunc('month', 'order_date') }}::date as order_month,
    dateadd(day, 30, order_date) as due_date,
    total > 5 as is_large,
    iff(is_large, 'large', 'small') as size
from {{ ref('acme', 'stg_orders') }} as orders left join paid using (order_id)",
    );
    world.write("models/pivoted.sql", "select order_id, {{ dbt_utils.pivot('payment_method', ['coupon', 'credit_card'], agg='count', then_value='1', else_value='null') }}\nfrom {{ ref('stg_payments') }} group by order_id");
    world.write(
        "models/wide.sql",
        "select {{ dbt_utils.star(ref('stg_orders'), except=['status']) }} from {{ ref('stg_orders') }}",
    );
    world.write(
        "models/all_rows.sql",
        "{{ dbt_utils.union_relations([ref('stg_orders'), ref('stg_payments')], source_column_name=none) }}",
    );
    world.write(
        "models/months.sql",
        "{{ dbt_utils.date_spine(datepart='month', start_date=\"'2018-01-01'\", end_date=\"'2018-04-01'\") }}",
    );
    world.write("models/docs.md", "{% docs orders_status %}\nOrders can be *returned*.\n{% enddocs %}");
    world.write(
        "models/schema.yml",
        "version: 2
models:
  - name: orders
    description: \"{{ doc('orders_status') }}\"
    columns:
      - {name: order_id, tests: [unique, not_null]}
      - {name: gone_from_the_model, description: Stale.}
      - name: customer_id
        tests:
          - relationships: {to: ref('stg_orders'), field: customer_id}
      - name: status
        tests: [{accepted_values: {values: ['returned', 'completed']}}]
    tests:
      - dbt_utils.unique_combination_of_columns: {combination_of_columns: [order_id, customer_id]}
      - dbt_utils.expression_is_true: {expression: 'total >= 0'}
  - name: raw_payments
    tests: [dbt_utils.fewer_rows_than: {compare_model: ref('all_rows')}]
  - {name: nothing_like_it, description: No file.}
",
    );
    world
}

#[tokio::test]
async fn a_public_project_builds_as_it_is() {
    let world = shop();
    world.build().await;
    assert_eq!(
        world.rows("select order_id, customer_id, total, order_month, due_date, size from orders").await,
        [
            "1 | 1 | 10.00 | 2018-01-01 | 2018-01-31 | large",
            "2 | 3 | 20.00 | 2018-01-01 | 2018-02-01 | large",
            "3 | 1 | 1.00 | 2018-02-01 | 2018-03-06 | small",
        ]
    );
    assert_eq!(
        world.rows("select order_id, coupon, credit_card from pivoted").await,
        ["1 | 0 | 1", "2 | 1 | 0", "3 | 0 | 0"]
    );
    assert_eq!(world.rows("select * from wide limit 1").await.len(), 1);
    assert_eq!(world.rows("select count(*), count(payment_id), count(customer_id) from all_rows").await, ["6 | 3 | 3"]);
    assert_eq!(
        world.rows("select cast(date_month as date) from months").await,
        ["2018-01-01", "2018-02-01", "2018-03-01"]
    );
    let project = world.runner().project().clone();
    assert_eq!(project.models["orders"].description, "Orders can be *returned*.");
    let notes: Vec<&str> = project.notes.iter().map(|note| note.message.as_str()).collect();
    assert_eq!(
        notes,
        [
            "`seed.raw_payments` is described among the models",
            "model has no file, name=`nothing_like_it`",
            "profiles are not used: the lake and the target say where tables go",
        ]
    );
    // The second run finds nothing to do.
    let before = world.versions().await;
    world.build().await;
    assert_eq!(world.versions().await, before);
}

#[tokio::test]
async fn packages_lend_models_and_macros_and_are_configured_from_outside() {
    let world = shop();
    world.write(
        "packages.yml",
        "packages:\n  - package: dbt-labs/dbt_utils\n    version: 1.3.0\n  - local: vendor/numbers\n",
    );
    world.write("dbt_project.yml", "name: acme\nvars: {numbers: {top: 3}}\nmodels: {numbers: {+materialized: table, +schema: lent}}\nseed-paths: [data]\n");
    world.write(
        "vendor/numbers/dbt_project.yml",
        "name: numbers\nvars: {top: 9, word: own}\nmodels: {numbers: {+materialized: view, +tags: [lent]}}\n",
    );
    world.write(
        "vendor/numbers/models/numbers.sql",
        "{{ config(alias='nums') }}select {{ top() }} as top, '{{ var('word') }}' as word, '{{ shared() }}' as said",
    );
    world.write("vendor/numbers/macros/m.sql", "{% macro top() %}{{ var('top') }}{% endmacro %}{% macro shared() %}{{ return(adapter.dispatch('shared', 'numbers')()) }}{% endmacro %}{% macro default__shared() %}lent{% endmacro %}");
    world.write("macros/mine.sql", "{% macro default__shared() %}mine{% endmacro %}{% macro top() %}7{% endmacro %}");
    world.write("models/reader.sql", "select n.*, '{{ numbers.shared() }}' as outside, {{ top() }} as inside from {{ ref('numbers', 'numbers') }} as n");
    world.build().await;
    assert_eq!(world.rows("select * from reader").await, ["3 | own | mine | mine | 7"]);
    assert_eq!(world.rows("select n.top from lent.nums as n").await, ["3"]);
    assert_eq!(world.runner().project().models["numbers"].config.tags, ["lent"]);
}

#[tokio::test]
async fn versions_have_their_files_and_the_latest_has_the_name() {
    let world = World::new();
    world.write("models/dim_v1.sql", "select 1 as version");
    world.write("models/dim_v2.sql", "select 2 as version");
    world.write("models/dim_new.sql", "select 3 as version");
    world.write(
        "models/dim.yml",
        "models:
  - name: dim
    latest_version: 2
    columns: [{name: version, data_tests: [not_null]}]
    versions: [{v: 1}, {v: 2, config: {materialized: table}}, {v: 3, defined_in: dim_new}]
",
    );
    world.write(
        "models/reader.sql",
        "select a.version as latest, b.version as first, c.version as newest
        from {{ ref('dim') }} as a, {{ ref('dim', v=1) }} as b, {{ ref('shop', 'dim', version=3) }} as c",
    );
    world.build().await;
    assert_eq!(world.rows("select * from reader").await, ["2 | 1 | 3"]);
}

#[tokio::test]
async fn a_project_may_name_its_schemas_itself() {
    let world = World::new();
    world.write("macros/names.sql", "{% macro generate_schema_name(custom, node) %}\n{% if node.resource_type == 'seed' %}raw{% else %}{{ default__generate_schema_name(custom, node) }}{% endif %}\n{% endmacro %}");
    world.write("seeds/codes.csv", "code\na\n");
    world.write("models/m.sql", "{{ config(schema='marts', materialized='table') }}select * from {{ ref('codes') }}");
    world.build().await;
    let tables: Vec<String> = world.versions().await.into_keys().filter(|path| path.starts_with("models/")).collect();
    assert_eq!(tables, ["models/main_marts/m", "models/raw/codes"]);
}

#[tokio::test]
async fn hooks_that_ask_are_run_and_others_are_passed_over() {
    let world = World::new();
    world.write("models/m.sql", "{{ config(materialized='table', pre_hook=\"analyze {{ this }}\", post_hook=[\"select * from {{ this }}\"]) }}select 1 as a");
    world.build().await;
    world.write(
        "models/m.sql",
        "{{ config(materialized='table', post_hook=\"select no_such from {{ this }}\") }}select 2 as a",
    );
    let report = world.try_build(&crate::run::BuildOptions::default()).await;
    let error = report.node("m").unwrap().error.as_ref().unwrap().to_string();
    assert!(error.starts_with("a hook failed, hook=`post_hook`, of=`m`"), "{error}");
}

#[tokio::test]
async fn macros_of_packages_may_leave_names_without_a_value() {
    let world = World::new();
    world.write("dbt_packages/acme_utils/dbt_project.yml", "name: acme_utils\nversion: '1.0'\n");
    world.write(
        "dbt_packages/acme_utils/macros/totals.sql",
        "{% macro totals(relation, by=[]) %}{{ return(adapter.dispatch('totals', 'acme_utils')(relation, by)) }}{% endmacro %}
         {% macro default__totals(relation, by) %}
         {% if by | length > 0 %}{% set selected = by | join(', ') ~ ', ' %}{% set grouped = 'group by ' ~ by | join(', ') %}{% endif %}
         select {{ selected }} sum(amount) as total from {{ relation }} {{ grouped }}
         {% endmacro %}",
    );
    world.write(
        "dbt_packages/acme_utils/macros/at_most.sql",
        "{% test at_most(model) %}{{ return(adapter.dispatch('test_at_most', 'acme_utils')(model, **kwargs)) }}{% endtest %}
         {% macro default__test_at_most(model) %}
         {% set wanted = kwargs.get('values', []) %}{% do wanted.append(kwargs.get('column_name')) %}
         select {{ '*' if should_store_failures() else '1' }} from {{ model }} where {{ wanted[1] }} > {{ wanted[0] }}
         {% endmacro %}",
    );
    // A test of that name in the project does not stand in for the package's.
    world.write("macros/at_most.sql", "{% test at_most(model, column_name, limit) %}select 1 where true{% endtest %}");
    world.write(
        "seeds/sold.csv",
        "item,amount,at\na,1,2021-01-01 00:00\na,2,2021-01-01 4:30\nb,5,2021-01-01 10:00:01\n",
    );
    world.write("seeds/sold.yml", "seeds: [{name: sold, config: {column_types: {at: timestamp}}}]");
    world.write("models/all_items.sql", "{{ acme_utils.totals(ref('sold')) }}");
    world.write("models/by_item.sql", "{{ acme_utils.totals(ref('sold'), ['item']) }}");
    world.write(
        "models/by_item.yml",
        "models: [{name: by_item, columns: [{name: total, data_tests: [acme_utils.at_most: {values: [5]}]}]}]",
    );
    world.build().await;
    assert_eq!(world.rows("select * from all_items").await, ["8"]);
    assert_eq!(world.rows("select * from by_item").await, ["a | 3", "b | 5"]);
    assert_eq!(
        world.rows("select date_part('hour', at), date_part('minute', at) from sold").await,
        ["0 | 0", "10 | 0", "4 | 30"]
    );
}

#[tokio::test]
async fn dates_of_dbt_date_come_with_the_engine() {
    let world = World::new();
    world.write("packages.yml", "packages:\n  - {package: godatadriven/dbt_date, version: 0.17.1}\n");
    world.write("models/days.sql", "{{ dbt_date.get_date_dimension('2024-12-28', '2025-01-06') }}");
    world.write(
        "models/last_days.sql",
        "select * from ({{ dbt_date.get_base_dates(n_dateparts=3, datepart='day') }}) as d",
    );
    world.write(
        "models/local.sql",
        "select {{ dbt_date.convert_timezone(\"cast('2025-07-01 12:00:00' as timestamp)\", 'America/New_York') }} as there,
            {{ dbt_date.to_unixtimestamp(\"timestamp '2021-06-07 14:35:20'\") }} as seconds,
            {{ dbt_date.from_unixtimestamp(1623076520) }} as moment,
            {{ dbt_date.n_months_away(-1) }} = date_trunc('month', {{ dbt_date.today() }} - interval '1 month') as is_last_month",
    );
    world.build().await;
    assert_eq!(
        world
            .rows(
                "select date_day, next_date_day, day_of_week, day_of_week_iso, day_of_week_name, day_of_year, week_start_date,
                    iso_week_start_date, iso_week_of_year, month_name_short, month_end_date, quarter_of_year, prior_year_date_day
                 from days where date_day in (date '2024-12-29', date '2025-01-05')"
            )
            .await,
        [
            "2024-12-29 | 2024-12-30 | 1 | 7 | Sunday | 364 | 2024-12-29 | 2024-12-23 | 52 | Dec | 2024-12-31 | 4 | 2023-12-29",
            "2025-01-05 | 2025-01-06 | 1 | 7 | Sunday | 5 | 2025-01-05 | 2024-12-30 | 1 | Jan | 2025-01-31 | 1 | 2024-01-05",
        ]
    );
    assert_eq!(world.rows("select count(*), min(prior_year_week_start_date) from days").await, ["9 | 2023-12-24"]);
    assert_eq!(world.rows("select count(*) from last_days").await, ["4"]);
    assert_eq!(
        world.rows("select * from local").await,
        ["2025-07-01T08:00:00 | 1623076520 | 2021-06-07T14:35:20Z | true"]
    );
}

#[tokio::test]
async fn ranks_may_be_ordered_by_functions_of_functions() {
    let world = World::new();
    world.write("seeds/names.csv", "name,born\nabc,2025-01-04\nz,2025-01-11\nlong name,2026-01-03\n");
    for (model, function) in
        [("a", "abs(datediff('day', born, date '2025-01-10'))"), ("s", "sqrt(length(name))"), ("l", "ln(length(name))")]
    {
        world.write(
            &format!("models/{model}.sql"),
            &format!("select name, rank() over (order by {function}) as place from {{{{ ref('names') }}}}"),
        );
    }
    world.build().await;
    assert_eq!(world.rows("select place, name from a").await, ["1 | z", "2 | abc", "3 | long name"]);
    assert_eq!(world.rows("select place, name from s").await, ["1 | z", "2 | abc", "3 | long name"]);
    assert_eq!(world.rows("select place, name from l").await, ["1 | z", "2 | abc", "3 | long name"]);
}

#[tokio::test]
async fn a_text_beside_dates_is_read_as_a_date() {
    let world = World::new();
    world.write("seeds/spans.csv", "id,valid_to,seen_at\n1,2024-01-31,2024-01-31 10:00:00\n2,,\n");
    world.write(
        "models/m.sql",
        "select id, coalesce(valid_to, '2099-01-01') as valid_to, coalesce(null, seen_at, '2099-01-01 12:00:00') as seen_at,
            coalesce(cast(valid_to as text), 'never') as told from {{ ref('spans') }}",
    );
    world.build().await;
    assert_eq!(
        world.rows("select * from m").await,
        ["1 | 2024-01-31 | 2024-01-31T10:00:00Z | 2024-01-31", "2 | 2099-01-01 | 2099-01-01T12:00:00Z | never"]
    );
}

#[tokio::test]
async fn answers_are_read_by_column_and_built_ins_can_be_called_by_name() {
    let world = World::new();
    world.write("seeds/codes.csv", "code,name\na,Anna\nb,Bert\n");
    world.write("macros/ref.sql", "{% macro ref(name) %}{{ return(builtins.ref(name)) }}{% endmacro %}");
    world.write(
        "models/m.sql",
        "{% set known = {} %}{% if execute %}{% for name, column in run_query('select * from ' ~ ref('codes')).columns.items() %}
            {% do known.update({name: column.values()}) %}{% endfor %}{% endif %}
         select '{{ known.get('name', []) | join('+') }}' as names from {{ ref('codes') }} limit 1",
    );
    world.build().await;
    assert_eq!(world.rows("select * from m").await, ["Anna+Bert"]);
}
