//! `arg_max(value, by)` and `arg_min(value, by)`: the value of the row with the greatest or least `by`.
//!
//! Rows whose `by` is null do not take part; a null value can win. Of rows that tie, the greatest value wins, for `arg_min`
//! as well, so that the order of rows never shows. Also known as `max_by`, `min_by`.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::bug;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ArgExtreme {
    greatest: bool,
    aliases: Vec<String>,
    signature: Signature,
}

impl ArgExtreme {
    /// `arg_max`.
    pub(super) fn max() -> Self {
        Self { greatest: true, aliases: vec!["max_by".to_owned()], signature: Signature::any(2, Volatility::Immutable) }
    }

    /// `arg_min`.
    pub(super) fn min() -> Self {
        Self {
            greatest: false,
            aliases: vec!["min_by".to_owned()],
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

impl AggregateUDFImpl for ArgExtreme {
    fn name(&self) -> &'static str {
        if self.greatest { "arg_max" } else { "arg_min" }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        given.first().cloned().ok_or_else(|| bug("arg_max takes two columns"))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let [value, by] = args.input_fields else { return Err(bug("arg_max takes two columns")) };
        Ok(vec![
            Arc::new(Field::new(format_state_name(args.name, "value"), value.data_type().clone(), true)),
            Arc::new(Field::new(format_state_name(args.name, "by"), by.data_type().clone(), true)),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let [_, by] = args.expr_fields else { return Err(bug("arg_max takes two columns")) };
        Ok(Box::new(Extreme {
            greatest: self.greatest,
            value: ScalarValue::try_from(args.return_field.data_type())?,
            by: ScalarValue::try_from(by.data_type())?,
        }))
    }
}

#[derive(Debug)]
struct Extreme {
    greatest: bool,
    value: ScalarValue,
    /// Null until a row took part.
    by: ScalarValue,
}

impl Extreme {
    fn wins(&self, value: &ScalarValue, by: &ScalarValue) -> bool {
        if self.by.is_null() {
            return true;
        }
        match by.partial_cmp(&self.by) {
            Some(Ordering::Greater) => self.greatest,
            Some(Ordering::Less) => !self.greatest,
            Some(Ordering::Equal) => self.value.is_null() || value.partial_cmp(&self.value) == Some(Ordering::Greater),
            None => false,
        }
    }
}

impl Accumulator for Extreme {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [value_column, by_column] = values else { return Err(bug("arg_max takes two columns")) };
        for row in (0..by_column.len()).filter(|row| by_column.is_valid(*row)) {
            let by = ScalarValue::try_from_array(by_column, row)?;
            let value = ScalarValue::try_from_array(value_column, row)?;
            if self.wins(&value, &by) {
                // Detached from the batch, whose memory would otherwise stay.
                (self.value, self.by) = (value.compacted(), by.compacted());
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size() + self.by.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), self.by.clone()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}
