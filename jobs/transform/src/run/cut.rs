//! Where inputs are cut for a batch of event time: at its bounds, or at openings into which bounds are put later.
//!
//! A query over openings is planned and optimised once and serves any number of batches, see [`super::prepared`]. Openings are
//! placeholders and no literals on purpose: what an optimizer does with a literal (fold it, merge it with another, drop a
//! condition that it implies) would hold for that batch alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::error::Result as QueryResult;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::prelude::{DataFrame, Expr, cast, ident, lit};
use datafusion::scalar::ScalarValue;

use crate::plan::{Reach, TimeRange};
use crate::project::BatchWindow;

const DAY_US: i64 = 86_400_000_000;

/// Where the inputs of a batch are cut.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut<'a> {
    /// Around this window.
    At(BatchWindow),
    /// Around a window that is known later.
    Open(&'a Openings),
}

impl Cut<'_> {
    /// Keeps the rows of a frame whose event time lies in the window or so far around it; rows without one are kept when
    /// `keep_nulls`.
    pub(super) fn within(
        self,
        frame: DataFrame,
        column: &str,
        reach: Reach,
        keep_nulls: bool,
    ) -> QueryResult<DataFrame> {
        match self {
            Self::At(window) => within(frame, column, TimeRange::from(window).read_through(reach), keep_nulls),
            Self::Open(openings) => {
                let bound_type = bound_type(frame.schema().field_with_unqualified_name(column)?.data_type());
                let has_end = reach.after_us != i64::MAX;
                // A row without event time never passes a condition, so that one must stay where it is to be dropped.
                let has_start = reach.before_us != i64::MAX || !(has_end || keep_nulls);
                let start = has_start.then(|| openings.add(&bound_type, reach, Side::Start));
                let end = has_end.then(|| openings.add(&bound_type, reach, Side::End));
                between(frame, column, start, end, keep_nulls)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Start,
    End,
}

#[derive(Clone, Debug)]
struct Opening {
    bound_type: DataType,
    reach: Reach,
    side: Side,
}

/// The bounds of a query that are filled in later.
#[derive(Debug, Default)]
pub(super) struct Openings(Mutex<Vec<Opening>>);

impl Openings {
    fn add(&self, bound_type: &DataType, reach: Reach, side: Side) -> Expr {
        let mut openings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = format!("${}", name(openings.len()));
        openings.push(Opening { bound_type: bound_type.clone(), reach, side });
        let field = Arc::new(Field::new(name(openings.len() - 1), bound_type.clone(), false));
        Expr::Placeholder(Placeholder::new_with_field(id, Some(field)))
    }

    /// The bounds of a window by the placeholder's id. `None` when the window reaches to an end of time, where a query over
    /// the window itself would have no condition.
    pub(super) fn fill(&self, window: BatchWindow) -> Option<HashMap<String, ScalarValue>> {
        let openings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = openings.iter().enumerate().map(|(index, opening)| {
            let range = TimeRange::from(window).read_through(opening.reach);
            let at_us = match opening.side {
                Side::Start => Some(range.start_us).filter(|at_us| *at_us != i64::MIN),
                Side::End => Some(range.end_us).filter(|at_us| *at_us != i64::MAX),
            };
            Some((format!("${}", name(index)), instant(&opening.bound_type, at_us?)))
        });
        bounds.collect()
    }
}

fn name(index: usize) -> String {
    format!("tidemill_bound_{index}")
}

/// Keeps the rows of a frame whose event time lies in `range`; those without one are kept when `keep_nulls`.
pub(crate) fn within(frame: DataFrame, column: &str, range: TimeRange, keep_nulls: bool) -> QueryResult<DataFrame> {
    let bound_type = bound_type(frame.schema().field_with_unqualified_name(column)?.data_type());
    let bound = |at_us: i64| lit(instant(&bound_type, at_us));
    let start = (range.start_us != i64::MIN).then(|| bound(range.start_us));
    let end = (range.end_us != i64::MAX).then(|| bound(range.end_us));
    between(frame, column, start, end, keep_nulls)
}

fn between(
    frame: DataFrame,
    column: &str,
    start: Option<Expr>,
    end: Option<Expr>,
    keep_nulls: bool,
) -> QueryResult<DataFrame> {
    let data_type = frame.schema().field_with_unqualified_name(column)?.data_type();
    let bound_type = bound_type(data_type);
    let operand = || if *data_type == bound_type { ident(column) } else { cast(ident(column), bound_type.clone()) };
    let from = start.map(|start| operand().gt_eq(start));
    let until = end.map(|end| operand().lt(end));
    let predicate = match (from, until) {
        (Some(from), Some(until)) => from.and(until),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return Ok(frame),
    };
    frame.filter(if keep_nulls { predicate.or(ident(column).is_null()) } else { predicate })
}

/// The type in which a column of event time is compared: its own, where that is one of instants or of dates.
fn bound_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(_, _) | DataType::Date32 => data_type.clone(),
        _ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// The value that stands for an instant beside a column of that type. A date is its midnight, so the first date that is not
/// before the instant is the one to compare with.
fn instant(data_type: &DataType, at_us: i64) -> ScalarValue {
    match data_type {
        DataType::Date32 => {
            let days = ceil_div(at_us, DAY_US);
            ScalarValue::Date32(Some(i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX })))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            ScalarValue::TimestampNanosecond(Some(at_us.saturating_mul(1000)), zone.clone())
        }
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            ScalarValue::TimestampMillisecond(Some(ceil_div(at_us, 1_000)), zone.clone())
        }
        DataType::Timestamp(TimeUnit::Second, zone) => {
            ScalarValue::TimestampSecond(Some(ceil_div(at_us, 1_000_000)), zone.clone())
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            ScalarValue::TimestampMicrosecond(Some(at_us), zone.clone())
        }
        _ => ScalarValue::TimestampMicrosecond(Some(at_us), Some("UTC".into())),
    }
}

fn ceil_div(value: i64, by: i64) -> i64 {
    value.div_euclid(by) + i64::from(value.rem_euclid(by) != 0)
}
