//! Parts of texts by regular expressions.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use regex::Regex;

use super::{coerce_text, texts, to_arrays, wrong_count};

/// `regexp_substr(text, pattern[, group])`: the first part of a text that matches, or that part's group; the whole is group 0.
///
/// Null when nothing matches, and when an argument is null.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RegexpSubstr {
    signature: Signature,
}

impl Default for RegexpSubstr {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for RegexpSubstr {
    fn name(&self) -> &'static str {
        "regexp_substr"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [text, pattern] => Ok(vec![coerce_text(self.name(), text)?, coerce_text(self.name(), pattern)?]),
            [text, pattern, _] => {
                Ok(vec![coerce_text(self.name(), text)?, coerce_text(self.name(), pattern)?, DataType::Int64])
            }
            _ => wrong_count(self.name(), "2 or 3", given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = to_arrays(&args.args, args.number_rows)?;
        let (values, patterns) = (texts(&arrays[0])?, texts(&arrays[1])?);
        let groups = arrays.get(2).map(AsArray::as_primitive::<Int64Type>);
        let mut compiled = HashMap::new();
        let mut found = StringBuilder::new();
        for row in 0..args.number_rows {
            let group = match groups {
                Some(groups) if groups.is_null(row) => None,
                Some(groups) => usize::try_from(groups.value(row)).ok(),
                None => Some(0),
            };
            found.append_option(part(values, patterns, row, group, &mut compiled)?);
        }
        Ok(ColumnarValue::Array(Arc::new(found.finish())))
    }
}

fn part<'a>(
    values: &'a StringArray,
    patterns: &'a StringArray,
    row: usize,
    group: Option<usize>,
    compiled: &mut HashMap<&'a str, Regex>,
) -> Result<Option<&'a str>> {
    let Some(group) = group.filter(|_| !values.is_null(row) && !patterns.is_null(row)) else { return Ok(None) };
    let pattern = patterns.value(row);
    if !compiled.contains_key(pattern) {
        match Regex::new(pattern) {
            Ok(regex) => compiled.insert(pattern, regex),
            Err(_) => return exec_err!("regular expression cannot be read, pattern=`{pattern}`"),
        };
    }
    let found = compiled[pattern].captures(values.value(row));
    Ok(found.and_then(|found| found.get(group)).map(|found| found.as_str()))
}
