//! Which models may compute neighbouring batches in one query.
//!
//! A batch computed alone reads its own context only. One query over several neighbours reads more, and gives the same rows
//! exactly when no row can see across a batch's border. That is proven from the plan, or not done:
//!
//! - the model reads one input, and nothing but projections, filters and aggregates stand between it and the output;
//! - its event time is the input's event time, or that cut to a unit that tiles the batch (`date_trunc`, `date_bin` from the
//!   epoch, a cast to a date), so a row of a batch comes from input rows of the same batch;
//! - each aggregate groups by that event time, so a group never spans two batches.

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::project::BatchSize;

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// Whether the query may be run over several batches at once: `plan` is the model's query, unoptimised, over inputs that are
/// opaque tables; `output` its event time; `input` the event time of whatever table is read.
pub(crate) fn may_share_a_query(plan: &LogicalPlan, output: &str, input: &str, size: BatchSize) -> bool {
    let Some(field) = plan.schema().index_of_column_by_name(None, output) else { return false };
    let column = Column::from(plan.schema().qualified_field(field));
    follows(plan, &column, input, size)
}

/// Whether `column` of `plan` is the input's event time, cut to a unit that tiles a batch, all the way down.
fn follows(plan: &LogicalPlan, column: &Column, input: &str, size: BatchSize) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => column.name == input && scan.fetch.is_none(),
        LogicalPlan::SubqueryAlias(alias) => {
            inner_column(plan, &alias.input, column).is_some_and(|inner| follows(&alias.input, &inner, input, size))
        }
        LogicalPlan::Filter(filter) => is_plain(&filter.predicate) && follows(&filter.input, column, input, size),
        LogicalPlan::Sort(sort) => sort.fetch.is_none() && follows(&sort.input, column, input, size),
        LogicalPlan::Projection(projection) => {
            let Some(index) = plan.schema().maybe_index_of_column(column) else { return false };
            projection.expr.iter().all(is_plain)
                && source_of(&projection.expr[index], size)
                    .is_some_and(|inner| follows(&projection.input, inner, input, size))
        }
        LogicalPlan::Aggregate(aggregate) => {
            let Some(index) = plan.schema().maybe_index_of_column(column) else { return false };
            let Some(key) = aggregate.group_expr.get(index) else { return false };
            aggregate.group_expr.iter().chain(&aggregate.aggr_expr).all(is_plain)
                && !matches!(key, Expr::GroupingSet(_))
                && source_of(key, size).is_some_and(|inner| follows(&aggregate.input, inner, input, size))
        }
        _ => false,
    }
}

/// The column of a subquery that stands at the same place as `column` in its alias.
fn inner_column(plan: &LogicalPlan, inner: &LogicalPlan, column: &Column) -> Option<Column> {
    let index = plan.schema().maybe_index_of_column(column)?;
    Some(Column::from(inner.schema().qualified_field(index)))
}

/// The column that an expression is, or is cut from.
fn source_of(expr: &Expr, size: BatchSize) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => source_of(&alias.expr, size),
        Expr::Cast(cast) => {
            let keeps_the_batch = match cast.field.data_type() {
                DataType::Date32 => tiles(DAY_US, size),
                // In another zone, what is cut next is cut at other instants.
                DataType::Timestamp(_, zone) => zone.as_deref().is_none_or(|zone| zone == "UTC" || zone == "+00:00"),
                _ => false,
            };
            source_of(&cast.expr, size).filter(|_| keeps_the_batch)
        }
        Expr::ScalarFunction(call) => match (call.name(), call.args.as_slice()) {
            ("date_trunc", [Expr::Literal(unit, _), at]) => {
                source_of(at, size).filter(|_| unit_us(unit).is_some_and(|unit_us| tiles(unit_us, size)))
            }
            ("date_bin", [Expr::Literal(width, _), at]) => {
                source_of(at, size).filter(|_| interval_us(width).is_some_and(|width_us| tiles(width_us, size)))
            }
            ("date_bin", [Expr::Literal(width, _), at, origin]) => source_of(at, size)
                .filter(|_| is_epoch(origin) && interval_us(width).is_some_and(|width_us| tiles(width_us, size))),
            _ => None,
        },
        _ => None,
    }
}

/// Whether windows of that width, counted from the epoch, lie whole inside of batches.
fn tiles(width_us: i64, size: BatchSize) -> bool {
    let batch_us = match size {
        BatchSize::Minute => 60 * SECOND_US,
        BatchSize::Hour => 3600 * SECOND_US,
        BatchSize::Day | BatchSize::Month | BatchSize::Year => DAY_US,
    };
    width_us > 0 && batch_us % width_us == 0
}

fn unit_us(unit: &ScalarValue) -> Option<i64> {
    let text = unit.try_as_str().flatten()?.to_ascii_lowercase();
    Some(match text.as_str() {
        "microsecond" => 1,
        "millisecond" => 1_000,
        "second" => SECOND_US,
        "minute" => 60 * SECOND_US,
        "hour" => 3600 * SECOND_US,
        "day" => DAY_US,
        _ => return None,
    })
}

fn interval_us(width: &ScalarValue) -> Option<i64> {
    match width {
        ScalarValue::IntervalMonthDayNano(Some(width)) if width.months == 0 && width.nanoseconds % 1000 == 0 => {
            Some(i64::from(width.days) * DAY_US + width.nanoseconds / 1000)
        }
        _ => None,
    }
}

/// Zero, or a time function of zero.
fn is_epoch(origin: &Expr) -> bool {
    match origin {
        Expr::Literal(
            ScalarValue::Int64(value)
            | ScalarValue::TimestampSecond(value, _)
            | ScalarValue::TimestampMicrosecond(value, _)
            | ScalarValue::TimestampNanosecond(value, _),
            _,
        ) => *value == Some(0),
        Expr::Cast(cast) => is_epoch(&cast.expr),
        Expr::ScalarFunction(call) => {
            call.name().starts_with("to_timestamp") && call.args.len() == 1 && is_epoch(&call.args[0])
        }
        _ => false,
    }
}

/// Whether an expression looks at its own row or group only.
pub(super) fn is_plain(expr: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode as _;
    let foreign = expr.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::WindowFunction(_)
                | Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::Unnest(_)
        ))
    });
    foreign.is_ok_and(|foreign| !foreign)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema, TimeUnit};
    use datafusion::datasource::empty::EmptyTable;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn shares(sql: &str, size: BatchSize) -> bool {
        let context = SessionContext::new();
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema =
            Schema::new(vec![Field::new("event_at", instant, true), Field::new("user_id", DataType::Int64, true)]);
        context.register_table("events", Arc::new(EmptyTable::new(Arc::new(schema)))).unwrap();
        let frame = context.sql(sql).await.unwrap();
        may_share_a_query(frame.logical_plan(), "at", "event_at", size)
    }

    #[tokio::test]
    async fn rows_and_groups_that_stay_inside_a_batch_share_a_query() {
        for sql in [
            "select event_at as at, user_id + 1 as other from events where user_id > 3",
            "with e as (select * from events), f as (select date_trunc('hour', event_at) as at, user_id from e)
             select at, count(*) as n from f group by at",
            "select date_bin(interval '10 seconds', event_at, to_timestamp_micros(0)) as at, count(distinct user_id) as n
             from events group by 1",
        ] {
            assert!(shares(sql, BatchSize::Hour).await, "{sql}");
        }
        assert!(
            shares("select cast(event_at as date) as at, max(user_id) as m from events group by 1", BatchSize::Day)
                .await
        );
    }

    #[tokio::test]
    async fn whatever_may_look_across_a_border_is_computed_alone() {
        for sql in [
            "select event_at as at, lag(user_id) over (order by event_at) as before from events",
            "select min(event_at) as at, user_id from events group by user_id",
            "select date_trunc('day', event_at) as at, count(*) as n from events group by 1",
            "select date_bin(interval '7 minutes', event_at) as at, count(*) as n from events group by 1",
            "select event_at + interval '1 hour' as at from events",
            "select date_trunc('hour', event_at at time zone 'Asia/Kolkata') as at, count(*) as n from events group by 1",
            "select a.event_at as at from events as a join events as b on a.user_id = b.user_id",
            "select distinct event_at as at from events",
            "select event_at as at from events limit 5",
            "select event_at as at, (select max(user_id) from events) as m from events",
        ] {
            assert!(!shares(sql, BatchSize::Hour).await, "{sql}");
        }
    }
}
