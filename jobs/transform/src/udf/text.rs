//! Parts of JSON texts, and hashes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{coerce_text, texts, to_arrays, wrong_count};

/// `json_get(json, path…)` and `json_get_text(json, path…)`.
///
/// The path is a list of object keys; a whole number also picks from an array, from 0. What is not there, a null, and a text that
/// is no JSON give null. `json_get` answers the part's own text, character by character (`1e3` stays `1e3`); `json_get_text` takes
/// the quotes off a text and leaves all else as it is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct JsonGet {
    unquotes: bool,
    signature: Signature,
}

impl JsonGet {
    pub(super) fn as_json() -> Self {
        Self { unquotes: false, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(super) fn as_text() -> Self {
        Self { unquotes: true, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The part at one step of a path.
fn step<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    let json = json.trim_start();
    if json.starts_with('{') {
        let object: HashMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(json).ok()?;
        return object.get(key).map(|part| part.get());
    }
    let items: Vec<&'a RawValue> = serde_json::from_str(json).ok()?;
    items.get(key.parse::<usize>().ok()?).map(|part| part.get())
}

fn part<'a>(json: &'a str, path: &[&StringArray], row: usize) -> Option<&'a str> {
    let mut at = json.trim();
    for keys in path {
        if keys.is_null(row) {
            return None;
        }
        at = step(at, keys.value(row))?;
    }
    (at != "null" && (!path.is_empty() || serde_json::from_str::<&RawValue>(at).is_ok())).then_some(at)
}

impl ScalarUDFImpl for JsonGet {
    fn name(&self) -> &'static str {
        if self.unquotes { "json_get_text" } else { "json_get" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let Some((json, path)) = given.split_first() else { return wrong_count(self.name(), "1 or more", 0) };
        let mut wanted = vec![coerce_text(self.name(), json)?];
        for key in path {
            wanted.push(match key {
                whole if whole.is_integer() => DataType::Utf8,
                DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
                other => {
                    return plan_err!("key is neither text nor number, function=`{}`, type=`{other}`", self.name());
                }
            });
        }
        Ok(wanted)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = to_arrays(&args.args, args.number_rows)?;
        let columns: Vec<&StringArray> = arrays.iter().map(texts).collect::<Result<_>>()?;
        let Some((jsons, path)) = columns.split_first() else { return wrong_count(self.name(), "1 or more", 0) };
        let mut built = StringBuilder::new();
        for row in 0..args.number_rows {
            let found = if jsons.is_null(row) { None } else { part(jsons.value(row), path, row) };
            match found {
                Some(text) if self.unquotes && text.starts_with('"') => {
                    built.append_option(serde_json::from_str::<String>(text).ok());
                }
                found => built.append_option(found),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(built.finish())))
    }
}

/// `sha256_hex(text)`: SHA-256 over the UTF-8 bytes, 64 lower-case hex digits.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Sha256Hex {
    signature: Signature,
}

impl Default for Sha256Hex {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Sha256Hex {
    fn name(&self) -> &'static str {
        "sha256_hex"
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

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = to_arrays(&args.args, args.number_rows)?;
        let hashes: StringArray = texts(&arrays[0])?.iter().map(|text| text.map(hex_digest)).collect();
        Ok(ColumnarValue::Array(Arc::new(hashes)))
    }
}

fn hex_digest(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
