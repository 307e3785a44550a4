//! Unit tests, as dbt's documentation shows them and beyond.

use super::{World, told};
use crate::test::TestOptions;

const SOURCES: &str = "
sources:
  - name: shop
    tables:
      - name: events
        config: {meta: {tidemill: {topics: [events], event_time: at, partition_by: day}}}
        columns:
          - {name: id, data_type: bigint}
          - {name: email, data_type: text}
          - {name: at, data_type: timestamp}
          - {name: amount, data_type: 'numeric(18, 6)'}
          - {name: ratio, data_type: double}
";

const ORDERS: &str = "
{{ config(materialized='incremental', incremental_strategy='append') }}
select id, email, event_at, amount, ratio, '{{ var(\"zone\", \"UTC\") }}' as zone, {{ label('x') }} as label
from {{ source('shop', 'events') }}
{% if is_incremental() %}where id > (select max(id) from {{ this }}){% endif %}
";

const CUSTOMERS: &str = "
select orders.email, regions.region, count(*) as orders, sum(ratio) as share
from {{ ref('orders') }} as orders left join {{ ref('regions') }} as regions on orders.email = regions.email
group by orders.email, regions.region
";

fn world(unit_tests: &str) -> World {
    World::new(&[
        ("dbt_project.yml", "name: shop\n"),
        ("models/_sources.yml", SOURCES),
        ("models/orders.sql", ORDERS),
        ("models/customers.sql", CUSTOMERS),
        ("seeds/regions.csv", "email,region\na@x.org,north\n"),
        ("macros/label.sql", "{% macro label(name) %}'{{ name }}'{% endmacro %}"),
        ("tests/fixtures/people.csv", "id,email,at\n1,a@x.org,2025-03-09\n2,,2025-03-10T12:00:00Z\n"),
        ("tests/fixtures/people_sql.sql", "select 7 as id, 'sql' as email"),
        ("models/tests.yml", unit_tests),
    ])
}

#[tokio::test]
async fn rows_come_as_dict_csv_sql_and_files_and_columns_left_out_are_null() {
    let world = world(
        "
unit_tests:
  - name: dict
    model: orders
    given:
      - input: source('shop', 'events')
        rows:
          - {id: 1, email: a@x.org, event_at: '2025-03-09 10:00', amount: 1.5}
          - {id: 2, amount: null, ratio: 0.1}
    expect:
      rows:
        - {id: 2, email: null, event_at: null, amount: null, ratio: 0.1}
        - {id: 1, email: a@x.org, event_at: '2025-03-09T10:00:00Z', amount: '1.500000', ratio: null}
  - name: csv
    model: orders
    given:
      - input: source('shop', 'events')
        format: csv
        rows: |
          id,email,amount
          1,a@x.org,2
          2,,3
    expect:
      format: csv
      rows: |
        id,email,amount
        1,a@x.org,2
        2,,3
  - name: sql
    model: orders
    given:
      - input: source('shop', 'events')
        format: sql
        rows: |
          select 1 as id, 'a' as email union all select 2, null
    expect:
      format: sql
      rows: select 2 as id, null as email union all select 1, 'a'
  - name: files
    model: orders
    given: [{input: \"source('shop', 'events')\", format: csv, fixture: people}]
    expect: {rows: [{id: 1, email: a@x.org}, {id: 2, email: null}]}
  - name: sql_file
    model: orders
    given: [{input: \"source('shop', 'events')\", format: sql, fixture: people_sql}]
    expect: {rows: [{id: 7, email: sql}]}
  - name: seed_keeps_its_rows
    model: customers
    given:
      - {input: ref('orders'), rows: [{email: a@x.org, ratio: 0.1}, {email: a@x.org, ratio: 0.2}, {email: b}]}
      - input: ref('regions')
    expect:
      rows:
        - {email: a@x.org, region: north, orders: 2, share: 0.3}
        - {email: b, region: null, orders: 1, share: null}
  - name: nothing_from_nothing
    model: customers
    given: [{input: ref('orders'), rows: []}, {input: ref('regions'), rows: []}]
    expect: {rows: []}
",
    );
    insta::assert_snapshot!(told(&world.select(&["test_type:unit"], &TestOptions::default()).await), @"
    Pass 0 csv
    Pass 0 dict
    Pass 0 files
    Pass 0 nothing_from_nothing
    Pass 0 seed_keeps_its_rows
    Pass 0 sql
    Pass 0 sql_file
    ");
    // No lake: not one object was written, or looked for.
    assert_eq!(world.lake.list().await.unwrap(), []);
}

#[tokio::test]
async fn every_version_of_a_model_is_tested_unless_the_test_names_some() {
    let world = World::new(&[
        ("dbt_project.yml", "name: shop\n"),
        ("models/numbers.sql", "select 1 as a"),
        ("models/sums_v1.sql", "select a + 1 as b from {{ ref('numbers') }}"),
        ("models/sums_v2.sql", "select a + 2 as b from {{ ref('numbers') }}"),
        (
            "models/sums.yml",
            "
models: [{name: sums, latest_version: 2, versions: [{v: 1}, {v: 2}]}]
unit_tests:
  - {name: every, model: sums, given: [{input: ref('numbers'), rows: [{a: 1}]}], expect: {rows: [{b: 3}]}}
  - name: first
    model: sums
    versions: {include: [1]}
    given: [{input: ref('numbers'), rows: [{a: 1}]}]
    expect: {rows: [{b: 2}]}
  - name: later
    model: sums
    versions: {exclude: [1]}
    given: [{input: ref('numbers'), rows: [{a: 1}]}]
    expect: {rows: [{b: 3}]}
",
        ),
    ]);
    let report = world.select(&["test_type:unit"], &TestOptions::default()).await;
    let mut ended: Vec<String> = report.nodes.iter().map(|node| format!("{} {:?}", node.name, node.outcome)).collect();
    ended.sort();
    assert_eq!(ended, ["every_v1 Fail", "every_v2 Pass", "first_v1 Pass", "later_v2 Pass"]);
}

#[tokio::test]
async fn overrides_reach_variables_macros_the_environment_and_is_incremental() {
    let world = world(
        "
unit_tests:
  - name: overridden
    model: orders
    overrides: {vars: {zone: Europe/Berlin}, macros: {label: \"'y'\"}}
    given: [{input: \"source('shop', 'events')\", rows: [{id: 1}]}]
    expect: {rows: [{zone: Europe/Berlin, label: y}]}
  - name: as_it_is
    model: orders
    given: [{input: \"source('shop', 'events')\", rows: [{id: 1}]}]
    expect: {rows: [{zone: UTC, label: x}]}
  - name: increment
    model: orders
    overrides: {macros: {is_incremental: true}}
    given:
      - {input: \"source('shop', 'events')\", rows: [{id: 1}, {id: 2}, {id: 3}]}
      - {input: this, rows: [{id: 2}]}
    expect: {rows: [{id: 3}]}
  - name: clock
    model: due
    overrides: {as_of: '2025-03-09T12:00:00Z', watermarks: {shop.events: '2025-03-09T11:00:00Z'}, env_vars: {REGION: north}}
    given: []
    expect: {rows: [{now: '2025-03-09T12:00:00Z', mark: '2025-03-09T11:00:00Z', region: north}]}
",
    );
    let due = "select {{ as_of() }} as now, {{ watermark('shop.events') }} as mark, '{{ env_var('REGION', 'none') }}' as region";
    world.write("models/due.sql", due);
    insta::assert_snapshot!(told(&world.select(&["test_type:unit"], &TestOptions::default()).await), @"
    Pass 0 as_it_is
    Pass 0 clock
    Pass 0 increment
    Pass 0 overridden
    ");
}

#[tokio::test]
async fn a_difference_is_told_row_by_row() {
    let world = world(
        "
unit_tests:
  - name: wrong
    model: orders
    given: [{input: \"source('shop', 'events')\", rows: [{id: 1, email: a}, {id: 2, email: b}, {id: 3, email: c}]}]
    expect: {rows: [{id: 1, email: a}, {id: 2, email: x}, {id: 9, email: z}]}
",
    );
    insta::assert_snapshot!(told(&world.test().await), @"
    Fail 3 wrong
      actual differs from expected:

      @@ ,id,email
         ,1 ,a
      →  ,2 ,x→b
      ---,9 ,z
      +++,3 ,c
    ");
}

#[tokio::test]
async fn rows_that_do_not_fit_are_told_with_their_line() {
    let world = world(
        "
unit_tests:
  - name: columns
    model: orders
    given:
      - input: source('shop', 'events')
        rows:
          - {id: 1, emial: a}
          - {id: one}
    expect: {rows: [{id: 1}]}
  - name: expected_column
    model: orders
    given: [{input: \"source('shop', 'events')\", rows: [{id: 1}]}]
    expect: {rows: [{idd: 1}]}
  - name: uneven
    model: orders
    given: [{input: \"source('shop', 'events')\", rows: [{id: 1}]}]
    expect: {rows: [{id: 1}, {email: a}]}
  - name: not_given
    model: customers
    given: [{input: ref('regions'), rows: []}]
    expect: {rows: []}
  - name: no_this
    model: orders
    overrides: {macros: {is_incremental: true}}
    given: [{input: \"source('shop', 'events')\", rows: [{id: 1}]}]
    expect: {rows: []}
",
    );
    insta::assert_snapshot!(told(&world.test().await), @"
    Error columns
      TM0331 models/tests.yml:8: no column of that name, column=`emial`, in=`source('shop', 'events')`
        hint: did you mean `email`?
      TM0331 models/tests.yml:9: value does not fit its column, column=`id`, value=`one`, type=`Int64`, row=`2`, in=`source('shop', 'events')`
    Error expected_column
      TM0331 models/tests.yml:14: no column of that name, column=`idd`, in=`expect of expected_column`
        hint: did you mean `id`?
    Error no_this
      TM0331 models/tests.yml:23: the model reads an input that is not given, input=`this`, in=`no_this`
        hint: add it to `given:`, `- {input: this, rows: []}` for one without rows
    Error not_given
      TM0331 models/tests.yml:19: the model reads an input that is not given, input=`ref('orders')`, in=`not_given`
        hint: add it to `given:`, `- {input: ref('orders'), rows: []}` for one without rows
    Error uneven
      TM0331 models/tests.yml:18: row names other columns than the first, in=`expect of uneven`
        hint: each row must name: id
    ");
}

#[test]
fn entries_that_make_no_sense_are_faults_of_the_project() {
    let world = world(
        "
unit_tests:
  - name: misspelt
    model: oders
    given: []
    expect: {rows: []}
  - name: nowhere
    model: orders
    given: [{input: ref('ordes'), rows: []}, {input: ref('orders')}]
    expect: {row: []}
  - name: ragged
    model: orders
    given:
      - {input: \"source('shop', 'events')\", fixture: poeple}
      - input: source('shop', 'events')
        format: csv
        rows: |
          id,email
          1
    expect: {rows: 7}
  - name: nothing
    model: orders
",
    );
    insta::assert_snapshot!(world.fault(), @"
    TM0301 models/tests.yml:4:12: no model of that name, model=`oders`, in=`misspelt`
      hint: did you mean `orders`?
    TM0331 models/tests.yml:9:21: input leads nowhere, input=`ref('ordes')`
      hint: did you mean `ref('orders')`?
    TM0314 models/tests.yml:9:46: key is missing, key=`rows`, input=`ref('orders')`
      hint: only a seed may leave its rows out: it keeps those of its file
    TM0314 models/tests.yml:10:13: key is missing, key=`rows`, in=`expect` of `nowhere`
    TM0312 models/tests.yml:10:14: unknown key, key=`row`, in=`expect`
      hint: did you mean `rows`?
    TM0331 models/tests.yml:14:54: fixture has no file, fixture=`poeple`
      hint: did you mean `people`?
    TM0331 models/tests.yml:18:11: CSV row has another number of fields than the heading, row=`1`, fields=`1`, columns=`2`
    TM0311 models/tests.yml:20:20: value has the wrong type, key=`rows`, wanted=`list of mappings, or a text with `format: csv` or `format: sql``, found=`number`
    TM0314 models/tests.yml:21:5: key is missing, key=`expect`, in=`nothing`
    ");
}

#[tokio::test]
async fn a_build_runs_them_before_their_model_and_only_when_something_changed() {
    let world = world(
        "
unit_tests:
  - name: labels
    model: regions_upper
    given: [{input: ref('regions'), rows: [{email: a, region: north}]}]
    expect: {rows: [{region: NORTH}]}
",
    );
    world.write(
        "models/regions_upper.sql",
        "{{ config(materialized='table') }} select email, upper(region) as region from {{ ref('regions') }}",
    );
    std::fs::remove_file(world.dir.path().join("models/orders.sql")).unwrap();
    std::fs::remove_file(world.dir.path().join("models/customers.sql")).unwrap();
    let outcome = |report: &crate::run::Report, name: &str| format!("{:?}", report.node(name).unwrap().outcome);
    let report = world.build().await;
    assert_eq!((outcome(&report, "labels"), outcome(&report, "regions_upper")), ("Pass".into(), "Success".into()));
    assert_eq!(outcome(&world.build().await, "labels"), "UpToDate");
    world.write(
        "models/regions_upper.sql",
        "{{ config(materialized='table') }} select email, lower(region) as region from {{ ref('regions') }}",
    );
    let report = world.build().await;
    assert_eq!((outcome(&report, "labels"), outcome(&report, "regions_upper")), ("Fail".into(), "Skipped".into()));
    assert_eq!(world.rows("select region from regions_upper").await, ["NORTH"]);
}
