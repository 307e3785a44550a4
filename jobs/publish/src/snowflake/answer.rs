//! Answers: completed so that the crate's strict structs take them, then read as rows of text.

use arrow_array_57::cast::AsArray;
use arrow_array_57::types::{Decimal128Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array_57::{Array, ArrayRef, RecordBatch};
use arrow_schema_57::DataType;
use serde_json::{Map, Value, json};
use snowflake_api::QueryResult;

use super::shim::with_call;

/// The rows of an answer, every cell as text. Numbers come without rounding; NULL is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Option<String>>>,
    /// For the query history; empty when the server gave none.
    pub(super) query_id: String,
}

impl Answer {
    pub(super) fn new(result: QueryResult, query_id: String) -> Self {
        let (columns, rows) = match result {
            QueryResult::Empty => (Vec::new(), Vec::new()),
            QueryResult::Json(json) => {
                (json.schema.iter().map(|field| field.name.clone()).collect(), json_rows(&json.value))
            }
            QueryResult::Arrow(batches) => {
                let columns = batches
                    .first()
                    .map(|batch| batch.schema().fields().iter().map(|field| field.name().clone()).collect());
                (columns.unwrap_or_default(), batches.iter().flat_map(arrow_rows).collect())
            }
        };
        Self { columns, rows, query_id }
    }

    /// One cell.
    pub(super) fn cell(&self, row: usize, column: usize) -> Option<&str> {
        self.rows.get(row)?.get(column)?.as_deref()
    }

    /// The number under the column of that name in the first row; a MERGE answers only the columns of the clauses it has.
    pub(super) fn count(&self, column: &str) -> u64 {
        let index = self.columns.iter().position(|name| name.eq_ignore_ascii_case(column));
        index.and_then(|index| self.cell(0, index)?.parse().ok()).unwrap_or(0)
    }

    /// The cells of a column by its name, row by row.
    pub(super) fn column(&self, name: &str) -> Option<Vec<Option<&str>>> {
        let index = self.columns.iter().position(|column| column.eq_ignore_ascii_case(name))?;
        Some(self.rows.iter().map(|row| row.get(index).and_then(Option::as_deref)).collect())
    }
}

fn json_rows(value: &Value) -> Vec<Vec<Option<String>>> {
    let cell = |cell: &Value| match cell {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    value.as_array().into_iter().flatten().map(|row| row.as_array().into_iter().flatten().map(cell).collect()).collect()
}

fn arrow_rows(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    let schema = batch.schema();
    let cells = |row: usize| {
        let columns = batch.columns().iter().zip(schema.fields());
        columns
            .map(|(column, field)| {
                let scale = field.metadata().get("scale").and_then(|scale| scale.parse().ok()).unwrap_or(0);
                text_of(column, row, scale)
            })
            .collect()
    };
    (0..batch.num_rows()).map(cells).collect()
}

/// NUMBER comes as the narrowest integer with the scale beside it.
fn scaled(value: i128, scale: u32) -> String {
    if scale == 0 {
        return value.to_string();
    }
    let (sign, value, unit) = (if value < 0 { "-" } else { "" }, value.unsigned_abs(), 10_u128.pow(scale));
    format!("{sign}{}.{:0width$}", value / unit, value % unit, width = scale as usize)
}

fn text_of(column: &ArrayRef, row: usize, scale: u32) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Int8 => scaled(column.as_primitive::<Int8Type>().value(row).into(), scale),
        DataType::Int16 => scaled(column.as_primitive::<Int16Type>().value(row).into(), scale),
        DataType::Int32 => scaled(column.as_primitive::<Int32Type>().value(row).into(), scale),
        DataType::Int64 => scaled(column.as_primitive::<Int64Type>().value(row).into(), scale),
        DataType::Decimal128(_, own) => {
            scaled(column.as_primitive::<Decimal128Type>().value(row), u32::try_from(*own).unwrap_or(0))
        }
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        // Every statement of ours casts to VARCHAR; another type is a statement that forgot to, and must not pass for text.
        _ => return None,
    })
}

fn fill(object: &mut Map<String, Value>, defaults: Value) {
    if let Value::Object(defaults) = defaults {
        for (key, value) in defaults {
            if object.get(&key).is_none_or(Value::is_null) {
                object.insert(key, value);
            }
        }
    }
}

/// Gives an answer the fields that the crate's structs ask for, and notes the query id and the SQLSTATE of the call.
///
/// The answer to PUT becomes one text cell, so that the crate's own upload (AWS only, of whatever local path the *server* names)
/// never runs.
pub(super) fn normalise(answer: &mut Value, is_login: bool, is_query: bool) {
    let Some(top) = answer.as_object_mut() else { return };
    let success = top.get("success").and_then(Value::as_bool).unwrap_or(false);
    let code = match top.get("code") {
        Some(Value::String(code)) => code.clone(),
        Some(Value::Number(code)) => code.to_string(),
        _ => "000000".to_owned(),
    };
    top.insert("success".to_owned(), json!(success));
    if !success {
        top.insert("code".to_owned(), json!(code));
    }
    // The answer to a closed session is `data: null`, and the crate wants it so.
    if !top.get("data").is_some_and(Value::is_object) && (!success || is_login || is_query) {
        top.insert("data".to_owned(), json!({}));
    }
    let Some(data) = top.get_mut("data").and_then(Value::as_object_mut) else { return };
    for (key, set) in [("queryId", true), ("sqlState", false)] {
        if let Some(text) = data.get(key).and_then(Value::as_str) {
            with_call(|call| text.clone_into(if set { &mut call.query_id } else { &mut call.sql_state }));
        }
    }
    if !success {
        fill(data, json!({"age": 0, "errorCode": code, "internalError": false, "queryId": "", "sqlState": ""}));
    } else if is_login {
        // A year: without a word on it, only the server's refusal ends a token.
        fill(
            data,
            json!({"sessionId": 0, "masterToken": "", "masterValidityInSeconds": 31_536_000, "validityInSeconds": 31_536_000,
                "serverVersion": "", "sessionInfo": {}}),
        );
        if let Some(session) = data.get_mut("sessionInfo").and_then(Value::as_object_mut) {
            fill(session, json!({"roleName": ""}));
        }
    } else if is_query {
        if data.contains_key("stageInfo") {
            let cell = Value::Object(std::mem::take(data)).to_string();
            fill(
                data,
                json!({"rowtype": [{"name": "stage_info", "type": "text", "nullable": false}], "rowset": [[cell]], "total": 1}),
            );
        }
        let total = data.get("total").and_then(Value::as_i64).unwrap_or(0);
        fill(
            data,
            json!({"parameters": [], "rowtype": [], "total": total, "returned": total, "queryId": "", "finalRoleName": "",
                "statementTypeId": 0, "version": 1}),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        assert_eq!(scaled(-1_234, 2), "-12.34");
        assert_eq!(scaled(-4, 3), "-0.004");
        assert_eq!(scaled(i128::from(i64::MIN), 0), i64::MIN.to_string());
    }

    #[test]
    fn an_error_without_data_keeps_its_code() {
        let mut answer = json!({"success": false, "code": "390112", "message": "expired", "data": null});
        normalise(&mut answer, false, true);
        assert_eq!(answer.pointer("/data/errorCode"), Some(&json!("390112")));
    }

    #[test]
    fn a_put_answer_becomes_one_cell() {
        let mut answer = json!({"success": true, "data": {"stageInfo": {"locationType": "S3"}, "command": "UPLOAD"}});
        normalise(&mut answer, false, true);
        let cell = answer.pointer("/data/rowset/0/0").and_then(Value::as_str).expect("there is a cell");
        assert!(
            serde_json::from_str::<Value>(cell)
                .is_ok_and(|info| info.pointer("/stageInfo/locationType") == Some(&json!("S3")))
        );
        assert_eq!(answer.pointer("/data/stageInfo"), None);
    }

    #[test]
    fn the_answer_to_a_closed_session_stays_null() {
        let mut answer = json!({"success": true, "data": null, "code": null, "message": null});
        normalise(&mut answer, false, false);
        assert_eq!(answer.get("data"), Some(&Value::Null));
    }

    #[test]
    fn counts_are_read_by_name() {
        let answer = Answer {
            columns: vec!["number of rows inserted".into(), "number of rows deleted".into()],
            rows: vec![vec![Some("3".into()), Some("1".into())]],
            query_id: String::new(),
        };
        assert_eq!((answer.count("number of rows deleted"), answer.count("number of rows updated")), (1, 0));
    }
}
