//! The shipped generic tests, run: each finds the rows that fail, and none in good data.

use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::prelude::SessionContext;

use crate::project::tests::load;
use crate::render::{PlainRelations, RenderContext, Renderer, SharedRelations};

const DATA: &str = "create table good as select * from (values (1, 'a', 10, timestamp '2025-03-09 12:00:00'), (2, 'b', 20, timestamp '2025-03-08 12:00:00')) as t(id, code, amount, seen);
    create table three as select 1 as one union all select 2 union all select 3;
    create table bad as select * from (values (1, 'a', 10, timestamp '2025-03-08 12:00:00'), (1, 'x', -5, null), (null, '', -20, null), (1, 'a', 40, null)) as t(id, code, amount, seen)";

/// The tests, once for each of the two tables.
const TESTS: &str = "
    columns:
      - name: id
        data_tests:
          - not_null
          - unique
          - relationships: {to: ref('good'), field: amount / 10}
          - not_null_proportion: {at_least: 0.9}
          - not_null: {name: NAME_id_of_negative, config: {where: amount < 0}}
          - dbt_utils.not_constant
          - dbt_utils.at_least_one
          - dbt_utils.sequential_values: {interval: 1}
          - dbt_utils.cardinality_equality: {to: ref('good'), field: id}
          - dbt_utils.relationships_where: {to: ref('good'), field: id, from_condition: amount > 0, to_condition: id < 9}
      - name: code
        data_tests:
          - accepted_values: {values: [a, b]}
          - dbt_utils.not_accepted_values: {values: [x]}
          - dbt_utils.not_empty_string
      - name: amount
        data_tests:
          - accepted_range: {min_value: 0}
          - expression_is_true: {expression: '< 30'}
    data_tests:
      - unique_combination_of_columns: {arguments: {combination_of_columns: [id]}}
      - row_count: {max_value: 2}
      - equal_rowcount: {compare_model: ref('good')}
      - dbt_utils.equality: {arguments: {compare_model: ref('good'), compare_columns: [id, code]}}
      - dbt_utils.fewer_rows_than: {compare_model: ref('three')}
      - dbt_utils.mutually_exclusive_ranges: {lower_bound_column: id, upper_bound_column: id + 1, partition_by: code}
      - dbt_utils.recency: {field: seen, datepart: day, interval: 1}
      - expression_is_true: {name: NAME_positive, expression: 'amount > 0'}
";

#[tokio::test]
async fn generic_tests_find_bad_rows_and_spare_good_ones() {
    let mut yaml = "models:\n".to_owned();
    for table in ["good", "bad"] {
        write!(yaml, "  - name: {table}{}", TESTS.replace("NAME", table)).unwrap();
    }
    let project = load(&[
        ("models/good.sql", "select 1"),
        ("models/bad.sql", "select 1"),
        ("models/three.sql", "select 1"),
        ("models/m.yml", &yaml),
    ]);
    let renderer = Renderer::new(&project).unwrap();
    let relations: SharedRelations = Arc::new(PlainRelations {
        schemas: ["good", "bad", "three"].map(|name| (name.to_owned(), "public".to_owned())).into(),
    });
    // 2025-03-09T18:00:00Z
    let render = RenderContext { as_of_us: 1_741_543_200_000_000, ..RenderContext::default() };
    let ctx = SessionContext::new();
    for statement in DATA.split(';') {
        ctx.sql(statement).await.unwrap().collect().await.unwrap();
    }
    let mut text = String::new();
    for test in &project.generic_tests {
        let sql = renderer.generic_test(test, &render, &relations).unwrap();
        let count = ctx.sql(&sql).await.unwrap_or_else(|error| panic!("{error}: {sql}")).count().await.unwrap();
        writeln!(text, "{count} {}", test.name).unwrap();
    }
    insta::assert_snapshot!(text, @"
    1 unique_combination_of_columns_bad__id
    1 row_count_bad__2
    1 equal_rowcount_bad__ref__good__
    2 bad_positive
    1 not_null_bad_id
    1 unique_bad_id
    1 relationships_bad_id__ref__good____amount___10
    1 not_null_proportion_bad_id__0_9
    1 bad_id_of_negative
    1 accepted_values_bad_code__a__b
    2 accepted_range_bad_amount__0
    1 expression_is_true_bad_amount____30
    0 unique_combination_of_columns_good__id
    0 row_count_good__2
    0 equal_rowcount_good__ref__good__
    0 good_positive
    0 not_null_good_id
    0 unique_good_id
    0 relationships_good_id__ref__good____amount___10
    0 not_null_proportion_good_id__0_9
    0 good_id_of_negative
    0 accepted_values_good_code__a__b
    0 accepted_range_good_amount__0
    0 expression_is_true_good_amount____30
    ");
}
