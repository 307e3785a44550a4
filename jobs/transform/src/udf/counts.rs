//! Counts per text as one JSON object.
//!
//! `count_by(locale)` is `{"CA":8,"MI":7,"RU":5}`: how many rows hold each text, keys in the order of their bytes; null rows
//! count nowhere, no rows give `{}`. `sum_counts` adds such objects key by key, so the object of two windows is the sum of theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::{bug, coerce_text, failed, texts, wrong_count};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CountBy {
    /// Rows are objects to add, not texts to count.
    adds_objects: bool,
    signature: Signature,
}

impl CountBy {
    /// `count_by(text)`.
    pub(super) fn rows() -> Self {
        Self { adds_objects: false, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// `sum_counts(json)`.
    pub(super) fn objects() -> Self {
        Self { adds_objects: true, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for CountBy {
    fn name(&self) -> &'static str {
        if self.adds_objects { "sum_counts" } else { "count_by" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [text] => Ok(vec![coerce_text(self.name(), text)?]),
            _ => wrong_count(self.name(), "1", given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Utf8(Some("{}".to_owned())))
    }

    /// The state is the object itself: merging is adding.
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "object"), DataType::Utf8, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Tally { adds_objects: self.adds_objects, counts: BTreeMap::new(), key_bytes: 0 }))
    }
}

#[derive(Debug)]
struct Tally {
    adds_objects: bool,
    counts: BTreeMap<String, i64>,
    key_bytes: usize,
}

impl Tally {
    fn add(&mut self, key: &str, count: i64) -> Result<()> {
        if let Some(own) = self.counts.get_mut(key) {
            let Some(sum) = own.checked_add(count) else {
                return failed(format!("count is too large for a bigint, key=`{key}`"));
            };
            *own = sum;
        } else {
            self.key_bytes += key.len();
            self.counts.insert(key.to_owned(), count);
        }
        Ok(())
    }

    fn add_object(&mut self, object: &str) -> Result<()> {
        let Ok(counts) = serde_json::from_str::<BTreeMap<String, i64>>(object) else {
            return failed(format!("value is no JSON object of counts, value=`{object}`"));
        };
        counts.iter().try_for_each(|(key, count)| self.add(key, *count))
    }

    fn to_json(&self) -> Result<String> {
        serde_json::to_string(&self.counts).map_err(|error| bug(&error.to_string()))
    }
}

impl Accumulator for Tally {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if self.adds_objects {
            return self.merge_batch(values);
        }
        let [column] = values else { return Err(bug("count_by takes one column")) };
        texts(column)?.iter().flatten().try_for_each(|text| self.add(text, 1))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Utf8(Some(self.to_json()?)))
    }

    /// A node of the tree costs about 64 bytes beside its key.
    fn size(&self) -> usize {
        size_of_val(self) + self.key_bytes + self.counts.len() * 64
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Utf8(Some(self.to_json()?))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [column] = states else { return Err(bug("count_by has one state column")) };
        let objects = column.as_string::<i32>();
        (0..objects.len()).filter(|row| objects.is_valid(*row)).try_for_each(|row| self.add_object(objects.value(row)))
    }
}
