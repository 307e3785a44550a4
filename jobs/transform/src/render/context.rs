//! dbt's context: what a template sees beside its own variables.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use minijinja::value::{Kwargs, Object, ObjectRepr, Value, from_args};
use minijinja::{Error, ErrorKind, State};
use serde_json::{Map, Value as Json, json};
use tidemill_project::SourceName;
use tidemill_project::clock::Micros;

use super::DATABASE;
use super::callables::{Package, macro_ref, wrap_macro};
use super::constant::constant;
use super::relation::{Adapter, Api, relation_value};
use super::session::Session;
use super::values::{from_data, look_up_env, look_up_var, target_facts, to_json};
use super::{modules, mutable, statement, sums, translate};
use crate::project::RefCall;

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
        if session.known.own_macros.contains(key) {
            return Some(macro_ref(session, None, key));
        }
        if let Some(found) = self.built_in(key) {
            return Some(found);
        }
        if session.known.macros.contains(key) {
            return Some(macro_ref(session, None, key));
        }
        if session.known.is_package(key) {
            return Some(Value::from_object(Package { name: key.to_owned(), session: Arc::clone(session) }));
        }
        None
    }
}

impl Root {
    fn built_in(self: &Arc<Self>, key: &str) -> Option<Value> {
        let session = &self.session;
        if let Some(function) = function(session, key) {
            return Some(function);
        }
        Some(match key {
            "config" => Value::from_object(Config(Arc::clone(session))),
            "this" => relation_value(session.subject.id.clone(), session.this()),
            "target" => target(session),
            "model" => session.model.get_or_init(|| model(session)).clone(),
            "execute" => Value::from(session.executes()),
            "exceptions" => Value::from_object(Exceptions),
            "adapter" => Value::from_object(Adapter(Arc::clone(session))),
            "api" => Value::from_object(Api),
            "modules" => modules::modules(started(session)),
            "graph" => session.graph.get_or_init(|| graph(session)).clone(),
            "context" => Value::from_dyn_object(Arc::clone(self)),
            "flags" => {
                let full_refresh = session.context().is_some_and(|context| context.full_refresh);
                from_data(json!({"FULL_REFRESH": full_refresh, "WHICH": "build", "STORE_FAILURES": false}))
            }
            "run_started_at" => modules::instant(started(session)),
            "invocation_id" => {
                let id = session.context().map(|context| context.run_id.clone()).unwrap_or_default();
                Value::from(id)
            }
            "project_name" => Value::from(session.known.project.as_str()),
            "database" => Value::from(DATABASE),
            "schema" => Value::from(session.target().schema.as_str()),
            "dbt_version" => Value::from("1.11.0"),
            "invocation_args_dict" | "dbt_metadata_envs" => from_data(json!({})),
            "builtins" => Value::from_pairs(
                ["ref", "source", "config", "var"].into_iter().filter_map(|name| Some((name, self.built_in(name)?))),
            ),
            _ => return None,
        })
    }
}

fn started(session: &Session) -> Micros {
    session.context().map_or(0, |context| context.as_of_us)
}

fn target(session: &Session) -> Value {
    from_data(target_facts(session.target(), &session.known.project))
}

fn model(session: &Session) -> Value {
    let subject = &session.subject;
    let this = session.this();
    let package = session.own_package();
    let kind = subject.id.to_string().split('.').next().unwrap_or_default().to_owned();
    let columns: Map<String, Json> = subject
        .facts
        .columns
        .iter()
        .map(|(name, data_type, description)| {
            (name.clone(), json!({"name": name, "data_type": data_type, "description": description}))
        })
        .collect();
    let mut facts = json!({
        "name": subject.id.name(), "alias": this.identifier, "schema": this.schema, "database": DATABASE,
        "unique_id": format!("{kind}.{package}.{}", subject.id.name()), "resource_type": kind, "package_name": package,
        "original_file_path": subject.facts.path, "path": subject.facts.path, "tags": subject.facts.tags,
        "config": subject.facts.config, "columns": columns, "description": subject.facts.description,
        "fqn": [package, subject.id.name()],
    });
    if let (Some(batch), Some(facts)) = (session.context().and_then(|context| context.batch), facts.as_object_mut()) {
        facts.insert(
            "batch".to_owned(),
            json!({
                "id": iso(batch.start_us), "event_time_start": iso(batch.start_us), "event_time_end": iso(batch.end_us),
            }),
        );
    }
    mutable::from_json(&facts)
}

/// `graph.nodes`, `graph.sources`, … by unique id; empty while a template is parsed, as in dbt.
fn graph(session: &Session) -> Value {
    match session.relations().and_then(|relations| relations.graph()) {
        Some(graph) => mutable::from_json(&graph),
        None => from_data(json!({"nodes": {}, "sources": {}, "exposures": {}, "metrics": {}, "groups": {}})),
    }
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
    Doc,
    IsIncremental,
    Watermark,
    AsOf,
    Log,
    Print,
    Return,
    WrapMacro,
    List,
    Dict,
    Given,
    Sum,
    ToJson,
    FromJson,
    ToYaml,
    FromYaml,
    Set,
    Zip,
    RunQuery,
    Statement,
    LoadResult,
    LoadRelation,
}

impl Function {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ref" => Self::Ref,
            "source" => Self::Source,
            "var" => Self::Var,
            "env_var" => Self::EnvVar,
            "doc" => Self::Doc,
            "is_incremental" => Self::IsIncremental,
            "watermark" => Self::Watermark,
            "as_of" => Self::AsOf,
            "log" => Self::Log,
            "print" => Self::Print,
            "return" => Self::Return,
            "tojson" => Self::ToJson,
            "fromjson" => Self::FromJson,
            "toyaml" => Self::ToYaml,
            "fromyaml" => Self::FromYaml,
            "set" | "set_strict" => Self::Set,
            "zip" | "zip_strict" => Self::Zip,
            "run_query" => Self::RunQuery,
            "statement" => Self::Statement,
            "load_result" => Self::LoadResult,
            "load_relation" | "load_cached_relation" => Self::LoadRelation,
            super::macros::WRAP => Self::WrapMacro,
            translate::LIST => Self::List,
            translate::DICT => Self::Dict,
            translate::GIVEN => Self::Given,
            sums::SUM => Self::Sum,
            _ => return None,
        })
    }
}

/// The built-in function of a name.
pub(super) fn function(session: &Arc<Session>, name: &str) -> Option<Value> {
    let function = Function::named(name)?;
    Some(Value::from_object(Call { function, session: Arc::clone(session) }))
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

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let session = &self.session;
        match self.function {
            Function::Ref => {
                let call = ref_call(args)?;
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
                let found = match overrides {
                    Some(value) => mutable::from_json(value),
                    None => look_up_var(&session.known.vars, session.own_package(), name, default)?,
                };
                rendered(session, state, found)
            }
            Function::EnvVar => {
                let (name, default): (&str, Option<Value>) = var_args(args)?;
                let default = default.filter(|default| !default.is_none());
                match session.context().and_then(|context| context.env.get(name)) {
                    Some(value) => Ok(Value::from(value.as_str())),
                    None => look_up_env(&session.known.env, name, default),
                }
            }
            Function::Doc => {
                let (first, second): (&str, Option<&str>) = from_args(args)?;
                let name = second.unwrap_or(first);
                let found = session.known.docs.get(name).map(|text| Value::from(text.as_str()));
                found.ok_or_else(|| fail(format!("no docs block of that name, doc=`{name}`")))
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
            Function::WrapMacro => wrap_macro(session, args),
            Function::List => mutable::list(args.first().unwrap_or(&Value::UNDEFINED)),
            Function::Dict => mutable::dict(args.first().unwrap_or(&Value::UNDEFINED)),
            Function::Given => {
                let value = args.first().cloned().unwrap_or_default();
                if value.is_undefined() {
                    // Asking it for anything is the way to the error that knows its name.
                    value.get_attr("value")?;
                }
                Ok(value)
            }
            Function::Sum => sums::sum(state, args),
            Function::ToJson => {
                let (value, _, _): (Value, Option<Value>, Kwargs) = from_args(args)?;
                Ok(Value::from(to_json(&value).to_string()))
            }
            Function::FromJson => {
                let (text, default): (&str, Option<Value>) = from_args(args)?;
                match serde_json::from_str::<Json>(text) {
                    Ok(value) => Ok(mutable::from_json(&value)),
                    Err(_) => Ok(default.unwrap_or_default()),
                }
            }
            Function::ToYaml => {
                let (value, _, _): (Value, Option<Value>, Kwargs) = from_args(args)?;
                // JSON is YAML.
                Ok(Value::from(to_json(&value).to_string()))
            }
            Function::FromYaml => {
                let (text, default): (&str, Option<Value>) = from_args(args)?;
                match crate::project::yaml_to_json(text) {
                    Some(value) => Ok(mutable::from_json(&value)),
                    None => Ok(default.unwrap_or_default()),
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
                // Two sets of the same items are equal, in whatever order they came.
                distinct.sort();
                mutable::list(&Value::from(distinct))
            }
            Function::Zip => {
                let mut lists = args.iter().map(Value::try_iter).collect::<Result<Vec<_>, _>>()?;
                let mut rows = Vec::new();
                while let Some(row) = lists.iter_mut().map(Iterator::next).collect::<Option<Vec<Value>>>() {
                    if row.is_empty() {
                        break;
                    }
                    rows.push(Value::from(row));
                }
                Ok(Value::from(rows))
            }
            Function::RunQuery => {
                let (sql,): (&str,) = from_args(args)?;
                statement::answer(session, sql)
            }
            Function::Statement => statement::statement(session, state, args),
            Function::LoadResult => statement::load_result(session, from_args::<(&str,)>(args)?.0),
            Function::LoadRelation => {
                Value::from_object(Adapter(Arc::clone(session))).call_method(state, "load_relation", args)
            }
        }
    }
}

/// A variable's value: a text that is a template is rendered where the variable is used, so that it may say `ref` or `target`.
fn rendered(session: &Arc<Session>, state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    let Some(text) = value.as_str().filter(|text| text.contains("{{") || text.contains("{%")) else { return Ok(value) };
    if session.is_deep() {
        return Err(fail("variables lead to each other in a circle".to_owned()));
    }
    let root = Value::from_object(Root { session: Arc::clone(session), extra: Vec::new() });
    let text = translate::translate_template(text).text;
    session.inside(session.own_package(), || state.env().render_named_str("variable", &text, root)).map(Value::from)
}

/// `ref('orders')`, `ref('shop', 'orders')`, `ref('orders', v=2)`.
fn ref_call(args: &[Value]) -> Result<RefCall, Error> {
    let (first, second, named): (&str, Option<&str>, Kwargs) = from_args(args)?;
    let mut version = None;
    for key in ["v", "version"] {
        let given: Option<Value> = named.get(key)?;
        version = version.or(given.filter(|value| !value.is_none()).map(|value| value.to_string()));
    }
    named.assert_all_used()?;
    Ok(match second {
        Some(name) => RefCall { package: Some(first.to_owned()), name: name.to_owned(), version },
        None => RefCall { package: None, name: first.to_owned(), version },
    })
}

/// `name`, and a default given by place or by name.
fn var_args(args: &[Value]) -> Result<(&str, Option<Value>), Error> {
    let (name, _, named): (&str, Option<Value>, Kwargs) = from_args(args)?;
    // `none` is a default, too.
    let given = args.get(1).filter(|default| !default.is_kwargs()).cloned();
    let named = if named.has("default") { Some(named.get("default")?) } else { None };
    Ok((name, given.or(named)))
}

fn fail(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
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
            "get" | "meta_get" => {
                let (key, default, named): (&str, Option<Value>, Kwargs) = from_args(args)?;
                let (named_default, _): (Option<Value>, Option<Value>) =
                    (named.get("default")?, named.get("validator")?);
                let found = self.look_up(key, method == "meta_get");
                Ok(found.or(default).or(named_default).unwrap_or_else(|| Value::from(())))
            }
            "require" | "meta_require" => {
                let (key, _): (&str, Kwargs) = from_args(args)?;
                let found = self.look_up(key, method == "meta_require");
                found.ok_or_else(|| fail(format!("config is missing, key=`{key}`")))
            }
            "set" | "persist_relation_docs" | "persist_column_docs" => Ok(Value::from("")),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

impl Config {
    fn look_up(&self, key: &str, in_meta: bool) -> Option<Value> {
        let found = if in_meta { self.0.config("meta")?.get(key)?.clone() } else { self.0.config(key)? };
        Some(mutable::from_json(&found))
    }
}

/// `exceptions.raise_compiler_error(...)`.
#[derive(Debug)]
struct Exceptions;

impl Object for Exceptions {
    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let message = args.first().map(ToString::to_string).unwrap_or_default();
        match method {
            "raise_compiler_error"
            | "raise_not_implemented"
            | "raise_parsing_error"
            | "raise_database_error"
            | "raise_fail_fast_error" => Err(fail(message.trim().to_owned())),
            "warn" | "warn_snapshot_timestamp_data_types" => {
                tracing::warn!(%message, "template warns");
                Ok(Value::from(""))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}
