//! dbt's context: what a template sees beside its own variables.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use minijinja::value::{Kwargs, Object, ObjectRepr, Value, from_args};
use minijinja::{Error, ErrorKind, State};
use serde_json::{Map, Value as Json, json};
use tidemill_project::SourceName;
use tidemill_project::clock::Micros;

use super::Relation;
use super::constant::constant;
use super::session::Session;
use super::values::{from_data, look_up_env, look_up_var, to_json};
use crate::project::{NodeId, RefCall};

/// The text of the error that carries a `return` up to its macro.
const RETURN: &str = "return outside of a macro";

/// The root of a template's names.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) session: Arc<Session>,
    /// Names of this render alone: the arguments of a test.
    pub(super) extra: Vec<(&'static str, Value)>,
}

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if let Some((_, value)) = self.extra.iter().find(|(name, _)| *name == key) {
            return Some(value.clone());
        }
        let session = &self.session;
        if let Some(constant) = constant(session, key) {
            return Some(constant);
        }
        if let Some(function) = Function::named(key) {
            return Some(Value::from_object(Call { function, session: Arc::clone(session) }));
        }
        match key {
            "config" => Some(Value::from_object(Config(Arc::clone(session)))),
            "this" => Some(relation_value(session.subject.id.clone(), session.this())),
            "target" => Some(target(session)),
            "model" => Some(model(session)),
            "execute" => Some(Value::from(session.executes())),
            "exceptions" => Some(Value::from_object(Exceptions)),
            "adapter" => Some(Value::from_object(Adapter(Arc::clone(session)))),
            "flags" => {
                let full_refresh = session.context().is_some_and(|context| context.full_refresh);
                Some(from_data(json!({"FULL_REFRESH": full_refresh, "WHICH": "build"})))
            }
            "run_started_at" => {
                let as_of = session.context().map_or(0, |context| context.as_of_us);
                Some(Value::from(iso(as_of)))
            }
            "project_name" => Some(Value::from(session.known.project.as_str())),
            "database" => Some(Value::from("")),
            "schema" => Some(Value::from(session.target().schema.as_str())),
            "dbt_version" => Some(Value::from("1.11.0")),
            "dbt" | "dbt_utils" | "tidemill" => Some(Value::from_object(Package(Arc::clone(session)))),
            "builtins" => Some(
                ["ref", "source", "config", "var"]
                    .into_iter()
                    .filter_map(|name| Some((name, self.get_value_by_str(name)?)))
                    .collect(),
            ),
            name if name == session.known.project => Some(Value::from_object(Package(Arc::clone(session)))),
            name => session.macro_named(name),
        }
    }
}

fn target(session: &Session) -> Value {
    let target = session.target();
    from_data(json!({
        "name": target.name, "schema": target.schema, "type": "tidemill", "profile_name": session.known.project,
        "threads": 1, "database": "",
    }))
}

fn model(session: &Session) -> Value {
    let subject = &session.subject;
    let this = session.this();
    let mut facts = json!({
        "name": subject.id.name(), "alias": this.identifier, "schema": this.schema, "unique_id": subject.id.to_string(),
        "resource_type": subject.id.to_string().split('.').next(), "package_name": session.known.project,
        "original_file_path": subject.facts.path, "path": subject.facts.path, "tags": subject.facts.tags,
        "config": subject.facts.config,
    });
    if let (Some(batch), Some(facts)) = (session.context().and_then(|context| context.batch), facts.as_object_mut()) {
        facts.insert(
            "batch".to_owned(),
            json!({
                "id": iso(batch.start_us), "event_time_start": iso(batch.start_us), "event_time_end": iso(batch.end_us),
            }),
        );
    }
    from_data(facts)
}

/// `2025-03-09T12:00:00.000000Z`.
fn iso(at_us: Micros) -> String {
    DateTime::from_timestamp_micros(at_us)
        .map_or_else(String::new, |at| at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// An instant as SQL: of the type that the lake's timestamps have, so that no comparison casts a column.
pub(super) fn timestamp_literal(at_us: Option<Micros>) -> String {
    let value = at_us.map_or_else(|| "null".to_owned(), |at_us| at_us.to_string());
    format!("arrow_cast({value}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

/// Functions that need nothing but the session and their arguments.
#[derive(Clone, Copy, Debug)]
enum Function {
    Ref,
    Source,
    Var,
    EnvVar,
    IsIncremental,
    Watermark,
    AsOf,
    Log,
    Print,
    Return,
    WrapMacro,
    ToJson,
    FromJson,
    Set,
    RunQuery,
}

impl Function {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ref" => Self::Ref,
            "source" => Self::Source,
            "var" => Self::Var,
            "env_var" => Self::EnvVar,
            "is_incremental" => Self::IsIncremental,
            "watermark" => Self::Watermark,
            "as_of" => Self::AsOf,
            "log" => Self::Log,
            "print" => Self::Print,
            "return" => Self::Return,
            "tojson" => Self::ToJson,
            "fromjson" => Self::FromJson,
            "set" => Self::Set,
            "run_query" => Self::RunQuery,
            super::macros::WRAP => Self::WrapMacro,
            _ => return None,
        })
    }
}

#[derive(Debug)]
struct Call {
    function: Function,
    session: Arc<Session>,
}

impl Object for Call {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let session = &self.session;
        match self.function {
            Function::Ref => {
                let (first, second, _): (&str, Option<&str>, Kwargs) = from_args(args)?;
                let call = match second {
                    Some(name) => RefCall { package: Some(first.to_owned()), name: name.to_owned() },
                    None => RefCall { package: None, name: first.to_owned() },
                };
                session.reference(call).map(|(id, relation)| relation_value(id, relation)).map_err(fail)
            }
            Function::Source => {
                let (source, table): (&str, &str) = from_args(args)?;
                let name = SourceName::new(source, table);
                session.source(name).map(|(id, relation)| relation_value(id, relation)).map_err(fail)
            }
            Function::Var => {
                let (name, default): (&str, Option<Value>) = var_args(args)?;
                session.note_var(name);
                let overrides = session.context().and_then(|context| context.vars.get(name));
                match overrides {
                    Some(value) => Ok(from_data(value)),
                    None => look_up_var(&session.known.vars, name, default),
                }
            }
            Function::EnvVar => {
                let (name, default): (&str, Option<Value>) = var_args(args)?;
                match session.context().and_then(|context| context.env.get(name)) {
                    Some(value) => Ok(Value::from(value.as_str())),
                    None => look_up_env(&session.known.env, name, default),
                }
            }
            Function::IsIncremental => Ok(Value::from(session.is_incremental())),
            Function::Watermark => {
                let (first, second): (&str, Option<&str>) = from_args(args)?;
                let name = match (second, first.split_once('.')) {
                    (Some(table), _) => SourceName::new(first, table),
                    (None, Some((source, table))) => SourceName::new(source, table),
                    (None, None) => return Err(fail(format!("source is not `source.table`, value=`{first}`"))),
                };
                session.watermark(name).map(|at| Value::from(timestamp_literal(at))).map_err(fail)
            }
            Function::AsOf => {
                let as_of = session.context().map(|context| context.as_of_us);
                Ok(Value::from(timestamp_literal(as_of)))
            }
            Function::Log | Function::Print => {
                if let Some(message) = args.first().filter(|_| session.executes()) {
                    tracing::info!(node = %session.subject.id, %message, "template says");
                }
                Ok(Value::from(""))
            }
            Function::Return => {
                session.set_returned(args.first().cloned().unwrap_or_default());
                Err(Error::new(ErrorKind::InvalidOperation, RETURN))
            }
            Function::WrapMacro => {
                let (name, inner): (&str, Value) = from_args(args)?;
                if inner.is_undefined() {
                    return Ok(inner);
                }
                if let Some(constant) = constant(session, name) {
                    session.register_macro(name, constant.clone());
                    return Ok(constant);
                }
                let wrapped = Value::from_object(Macro { name: name.to_owned(), inner, session: Arc::clone(session) });
                session.register_macro(name, wrapped.clone());
                Ok(wrapped)
            }
            Function::ToJson => {
                let (value, _): (Value, Kwargs) = from_args(args)?;
                Ok(Value::from(to_json(&value).to_string()))
            }
            Function::FromJson => {
                let (text, default): (&str, Option<Value>) = from_args(args)?;
                match serde_json::from_str::<Json>(text) {
                    Ok(value) => Ok(from_data(&value)),
                    Err(_) => Ok(default.unwrap_or_default()),
                }
            }
            Function::Set => {
                let (items, _): (Value, Option<Value>) = from_args(args)?;
                let mut distinct: Vec<Value> = Vec::new();
                for item in items.try_iter()? {
                    if !distinct.contains(&item) {
                        distinct.push(item);
                    }
                }
                Ok(Value::from(distinct))
            }
            Function::RunQuery => Err(fail("queries cannot be run while a model is rendered".to_owned())),
        }
    }
}

/// `name`, and a default given by place or by name.
fn var_args(args: &[Value]) -> Result<(&str, Option<Value>), Error> {
    let (name, default, named): (&str, Option<Value>, Kwargs) = from_args(args)?;
    let named: Option<Value> = named.get("default")?;
    Ok((name, default.or(named)))
}

fn fail(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// A macro with dbt's `return` and a frame in the stack of an error.
#[derive(Debug)]
struct Macro {
    name: String,
    inner: Value,
    session: Arc<Session>,
}

impl Object for Macro {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        match self.inner.call(state, args) {
            Ok(value) => Ok(value),
            Err(error) => match self.session.take_returned() {
                Some(value) => Ok(value),
                None => {
                    Err(Error::new(ErrorKind::InvalidOperation, format!("in macro `{}`", self.name)).with_source(error))
                }
            },
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<macro {}>", self.name)
    }
}

/// `config(...)`, `config.get(...)`, `config.require(...)`.
#[derive(Debug)]
struct Config(Arc<Session>);

impl Object for Config {
    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (first, named): (Option<Value>, Kwargs) = from_args(args)?;
        let mut entries = Map::new();
        if let Some(Json::Object(given)) = first.map(|value| to_json(&value)) {
            entries.extend(given);
        }
        for key in named.args() {
            let value: Value = named.peek(key)?;
            entries.insert(key.to_owned(), to_json(&value));
        }
        self.0.note_config(entries);
        Ok(Value::from(""))
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "get" => {
                let (key, default, named): (&str, Option<Value>, Kwargs) = from_args(args)?;
                let named: Option<Value> = named.get("default")?;
                let found = self.0.config(key).map(|value| from_data(&value));
                Ok(found.or(default).or(named).unwrap_or_else(|| Value::from(())))
            }
            "require" => {
                let (key, _): (&str, Kwargs) = from_args(args)?;
                let found = self.0.config(key).map(|value| from_data(&value));
                found.ok_or_else(|| fail(format!("config is missing, key=`{key}`")))
            }
            "set" | "persist_relation_docs" | "persist_column_docs" => Ok(Value::from("")),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// A relation: its SQL where it is printed, its parts where they are asked for.
#[derive(Debug)]
struct RelationValue {
    id: NodeId,
    relation: Relation,
}

pub(super) fn relation_value(id: NodeId, relation: Relation) -> Value {
    Value::from_object(RelationValue { id, relation })
}

impl Object for RelationValue {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "identifier" | "name" | "table" | "alias" => Value::from(self.relation.identifier.as_str()),
            "schema" | "dataset" => Value::from(self.relation.schema.as_str()),
            "database" => Value::from(""),
            "type" => Value::from("table"),
            "is_table" => Value::from(true),
            "is_view" | "is_cte" => Value::from(false),
            _ => return None,
        })
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.relation.sql)
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "include" | "quote" | "render" => Ok(Value::from_dyn_object(Arc::clone(self))),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `exceptions.raise_compiler_error(...)`.
#[derive(Debug)]
struct Exceptions;

impl Object for Exceptions {
    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let message = args.first().map(ToString::to_string).unwrap_or_default();
        match method {
            "raise_compiler_error" | "raise_not_implemented" | "raise_parsing_error" => Err(fail(message)),
            "warn" => {
                tracing::warn!(%message, "template warns");
                Ok(Value::from(""))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// The part of dbt's `adapter` that needs no statement.
#[derive(Debug)]
struct Adapter(Arc<Session>);

impl Object for Adapter {
    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "dispatch" => {
                let (name, _, _): (&str, Option<Value>, Kwargs) = from_args(args)?;
                ["tidemill__", "postgres__", "default__"]
                    .iter()
                    .find_map(|prefix| self.0.macro_named(&format!("{prefix}{name}")))
                    .ok_or_else(|| fail(format!("no macro to dispatch to, name=`default__{name}`")))
            }
            "get_columns_in_relation" => {
                let (relation,): (Value,) = from_args(args)?;
                let Some(relation) = relation.downcast_object_ref::<RelationValue>() else {
                    return Ok(Value::from(Vec::<Value>::new()));
                };
                let columns = self.0.columns(&relation.id);
                Ok(columns.into_iter().map(|name| from_data(json!({"name": name, "column": name}))).collect())
            }
            "quote" => {
                let (name,): (&str,) = from_args(args)?;
                Ok(Value::from(format!("\"{}\"", name.replace('"', "\"\""))))
            }
            "type" => Ok(Value::from("tidemill")),
            "get_relation" => Ok(Value::from(())),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `dbt_utils.star(...)`, `my_project.my_macro(...)`: macros of all packages share one name space.
#[derive(Debug)]
struct Package(Arc<Session>);

impl Object for Package {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.macro_named(key.as_str()?)
    }

    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match self.0.macro_named(method) {
            Some(found) => found.call(state, args),
            None => Err(Error::new(ErrorKind::UnknownFunction, format!("{method} is unknown"))),
        }
    }
}
