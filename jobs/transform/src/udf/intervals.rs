//! `union_seconds(start, end)`: how long the union of half-open intervals is (X24). Overlaps count once, touching intervals do
//! not overlap; rows with a null and rows that end before they start cover nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::cast::as_timestamp_microsecond_array;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::{bug, coerce_time, failed, instant_type, wrong_count};

/// Digits of the result, of them six after the point: microseconds.
const PRECISION: u8 = 18;
const SCALE: i8 = 6;

/// Intervals are merged when so many have come since the last time: memory follows what is disjoint, at the price of one sort
/// of a list that is mostly sorted.
const MERGE_AFTER: usize = 1024;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct UnionSeconds {
    signature: Signature,
}

impl Default for UnionSeconds {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for UnionSeconds {
    fn name(&self) -> &'static str {
        "union_seconds"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [start, end] => Ok(vec![
                coerce_time(self.name(), start, instant_type())?,
                coerce_time(self.name(), end, instant_type())?,
            ]),
            _ => wrong_count(self.name(), "2", given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(PRECISION, SCALE))
    }

    /// Nothing covers zero seconds.
    fn is_nullable(&self) -> bool {
        false
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Decimal128(Some(0), PRECISION, SCALE))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let bounds = DataType::new_list(DataType::Int64, true);
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "bounds"), bounds, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::<Union>::default())
    }
}

/// Disjoint intervals in `merged`, those that came since behind them.
#[derive(Debug, Default)]
struct Union {
    intervals: Vec<(i64, i64)>,
    num_merged: usize,
}

impl Union {
    fn push(&mut self, start: i64, end: i64) {
        if start < end {
            self.intervals.push((start, end));
        }
        if self.intervals.len() - self.num_merged >= MERGE_AFTER.max(self.num_merged) {
            self.merge();
        }
    }

    fn merge(&mut self) {
        self.intervals.sort_unstable();
        let mut kept = 0;
        for index in 0..self.intervals.len() {
            let (start, end) = self.intervals[index];
            if kept > 0 && start <= self.intervals[kept - 1].1 {
                self.intervals[kept - 1].1 = self.intervals[kept - 1].1.max(end);
            } else {
                self.intervals[kept] = (start, end);
                kept += 1;
            }
        }
        self.intervals.truncate(kept);
        self.num_merged = kept;
    }
}

impl Accumulator for Union {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [starts, ends] = values else { return Err(bug("union_seconds takes two columns")) };
        let (starts, ends) = (as_timestamp_microsecond_array(starts)?, as_timestamp_microsecond_array(ends)?);
        for row in 0..starts.len() {
            if starts.is_valid(row) && ends.is_valid(row) {
                self.push(starts.value(row), ends.value(row));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.merge();
        let covered: i128 = self.intervals.iter().map(|(start, end)| i128::from(*end) - i128::from(*start)).sum();
        if covered >= 10_i128.pow(u32::from(PRECISION)) {
            return failed(format!("union of intervals is too long, micros=`{covered}`"));
        }
        Ok(ScalarValue::Decimal128(Some(covered), PRECISION, SCALE))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.intervals.capacity() * size_of::<(i64, i64)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.merge();
        let bounds: Vec<ScalarValue> =
            self.intervals.iter().flat_map(|(start, end)| [*start, *end]).map(ScalarValue::from).collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&bounds, &DataType::Int64))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [lists] = states else { return Err(bug("union_seconds has one state column")) };
        for bounds in lists.as_list::<i32>().iter().flatten() {
            let bounds = bounds.as_primitive::<Int64Type>();
            for pair in bounds.values().chunks_exact(2) {
                self.push(pair[0], pair[1]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the rows are split between accumulators, the union is what a map of covered units says.
        #[test]
        fn union_counts_each_covered_unit_once(
            rows in prop::collection::vec((0_i64..200, -5_i64..40, any::<bool>()), 0..400),
        ) {
            let mut covered = std::collections::BTreeSet::new();
            let (mut left, mut right) = (Union::default(), Union::default());
            for (start, length, is_left) in &rows {
                covered.extend(*start..start + length);
                if *is_left { left.push(*start, start + length) } else { right.push(*start, start + length) }
            }
            let state = right.state().unwrap();
            let states: Vec<ArrayRef> = state.iter().map(|value| value.to_array().unwrap()).collect();
            left.merge_batch(&states).unwrap();
            let expected = ScalarValue::Decimal128(Some(covered.len() as i128), PRECISION, SCALE);
            prop_assert_eq!(left.evaluate().unwrap(), expected);
        }
    }
}
