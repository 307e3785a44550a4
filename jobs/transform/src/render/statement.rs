//! Answers of queries that templates ask: `run_query`, `statement` with `load_result`.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Value, from_args};
use minijinja::{Error, ErrorKind, State};
use serde_json::Value as Json;

use super::TableRows;
use super::mutable;
use super::session::Session;
use super::values::from_data;

/// The answer of a query as a table; none while a template is parsed.
pub(super) fn answer(session: &Session, sql: &str) -> Result<Value, Error> {
    let answer = session.query(sql).map_err(|why| Error::new(ErrorKind::InvalidOperation, why))?;
    Ok(answer.map_or_else(|| Value::from(()), |rows| Value::from_object(Table(Arc::new(rows)))))
}

/// `{% call statement('name', fetch_result=true) %} … {% endcall %}`: runs the block's SQL and keeps the answer.
pub(super) fn statement(session: &Session, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let (name, named): (Option<String>, Kwargs) = from_args(args)?;
    let named_name: Option<String> = named.get("name")?;
    let caller: Option<Value> = named.get("caller")?;
    for ignored in ["fetch_result", "auto_begin", "language"] {
        let _: Option<Value> = named.get(ignored)?;
    }
    let Some(caller) = caller else { return Ok(Value::from("")) };
    // The block may call `return`, or use something, while a template is parsed, too.
    let sql = caller.call(state, &[])?.to_string();
    if !session.executes() {
        return Ok(Value::from(""));
    }
    let table = answer(session, &sql)?;
    if let Some(name) = name.or(named_name) {
        session.keep_result(&name, table);
    }
    Ok(Value::from(""))
}

/// `load_result('name')`: `data` holds rows, `table` the same as a table.
pub(super) fn load_result(session: &Session, name: &str) -> Result<Value, Error> {
    let Some(table) = session.result(name) else { return Ok(Value::from(())) };
    let Some(rows) = table.downcast_object_ref::<Table>().map(|table| Arc::clone(&table.0)) else {
        return Ok(Value::from(()));
    };
    let data: Vec<Value> = (0..rows.rows.len()).map(|index| row(&rows, index)).collect();
    let entries = [("data", mutable::list(&Value::from(data))?), ("table", table), ("response", Value::from("OK"))];
    Ok(Value::from_pairs(entries))
}

fn row(rows: &Arc<TableRows>, index: usize) -> Value {
    Value::from_object(Row { rows: Arc::clone(rows), index })
}

/// A table as agate has it, the library behind dbt's answers.
#[derive(Debug)]
struct Table(Arc<TableRows>);

impl Object for Table {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let rows = &self.0;
        Some(match key.as_str() {
            Some("rows") => (0..rows.rows.len()).map(|index| row(rows, index)).collect(),
            Some("columns") => Value::from_object(Columns(Arc::clone(rows))),
            Some("column_names") => rows.columns.iter().map(|column| Value::from(column.name.as_str())).collect(),
            Some(_) => return None,
            None => row(rows, key.as_usize().filter(|index| *index < rows.rows.len())?),
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values((0..self.0.rows.len()).map(|index| row(&self.0, index)).collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.rows.len())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "print_table" | "print_csv" | "print_json" => Ok(Value::from("")),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// One row: by index and by name.
#[derive(Debug)]
struct Row {
    rows: Arc<TableRows>,
    index: usize,
}

impl Row {
    fn cell(&self, column: usize) -> Option<Value> {
        self.rows.rows.get(self.index)?.get(column).map(cell)
    }
}

fn cell(value: &Json) -> Value {
    if value.is_null() { Value::from(()) } else { from_data(value) }
}

impl Object for Row {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str() {
            Some(name) => self.cell(position(&self.rows, name)?),
            None => self.cell(key.as_usize()?),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.rows.columns.len())
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let names = || self.rows.columns.iter().map(|column| Value::from(column.name.as_str()));
        let cells = || (0..self.rows.columns.len()).filter_map(|column| self.cell(column));
        match method {
            "keys" => Ok(names().collect()),
            "values" => Ok(cells().collect()),
            "items" => Ok(names().zip(cells()).map(|(name, cell)| Value::from(vec![name, cell])).collect()),
            "dict" => Ok(Value::from_pairs(names().zip(cells()))),
            "get" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                Ok(self.get_value(&key).or(default).unwrap_or_else(|| Value::from(())))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

fn position(rows: &TableRows, name: &str) -> Option<usize> {
    rows.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
}

/// The columns of a table, by index and by name.
#[derive(Debug)]
struct Columns(Arc<TableRows>);

impl Object for Columns {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = match key.as_str() {
            Some(name) => position(&self.0, name)?,
            None => key.as_usize().filter(|index| *index < self.0.columns.len())?,
        };
        Some(Value::from_object(Column { rows: Arc::clone(&self.0), index }))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.columns.len())
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "keys" => Ok(self.0.columns.iter().map(|column| Value::from(column.name.as_str())).collect()),
            "items" => {
                let column = |index| Value::from_object(Column { rows: Arc::clone(&self.0), index });
                let named = self.0.columns.iter().enumerate();
                let pair = |(index, facts): (usize, &super::ColumnFacts)| {
                    Value::from(vec![Value::from(facts.name.as_str()), column(index)])
                };
                Ok(named.map(pair).collect())
            }
            "get" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                Ok(self.get_value(&key).or(default).unwrap_or_else(|| Value::from(())))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// One column: its cells, also by `values()`.
#[derive(Debug)]
struct Column {
    rows: Arc<TableRows>,
    index: usize,
}

impl Column {
    fn cells(&self) -> Vec<Value> {
        self.rows.rows.iter().filter_map(|row| row.get(self.index).map(cell)).collect()
    }
}

impl Object for Column {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str() {
            Some("name") => self.rows.columns.get(self.index).map(|column| Value::from(column.name.as_str())),
            Some(_) => None,
            None => self.rows.rows.get(key.as_usize()?)?.get(self.index).map(cell),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.rows.rows.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<column {}>", self.index)
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "values" => mutable::list(&Value::from(self.cells())),
            "values_distinct" => {
                let mut distinct: Vec<Value> = Vec::new();
                for cell in self.cells() {
                    if !distinct.contains(&cell) {
                        distinct.push(cell);
                    }
                }
                mutable::list(&Value::from(distinct))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}
