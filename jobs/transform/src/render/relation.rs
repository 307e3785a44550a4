//! Relations as templates see them, and what they may ask of the engine about tables.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{DynObject, Enumerator, Kwargs, Object, Value, from_args};
use minijinja::{Error, ErrorKind, State};
use serde_json::json;

use super::mutable;
use super::session::Session;
use super::values::from_data;
use super::{ColumnFacts, Relation, quote};
use crate::project::NodeId;

/// A relation: its SQL where it is printed, its parts where they are asked for.
#[derive(Debug)]
pub(super) struct RelationValue {
    /// `None` for a relation that was put together from names.
    pub(super) id: Option<NodeId>,
    pub(super) relation: Relation,
}

pub(super) fn relation_value(id: NodeId, relation: Relation) -> Value {
    Value::from_object(RelationValue { id: Some(id), relation })
}

const PARTS: [&str; 5] = ["database", "schema", "identifier", "type", "metadata"];

impl Object for RelationValue {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "identifier" | "name" | "table" | "alias" => Value::from(self.relation.identifier.as_str()),
            "schema" | "dataset" => Value::from(self.relation.schema.as_str()),
            "database" | "project" => Value::from(super::DATABASE),
            "type" => Value::from("table"),
            "is_table" => Value::from(true),
            "is_view" | "is_cte" | "is_materialized_view" | "is_dynamic_table" => Value::from(false),
            // By this dbt_utils knows a relation.
            "metadata" => from_data(json!({"type": "TidemillRelation"})),
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&PARTS)
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        Some(self.relation.sql.cmp(&other.downcast_ref::<Self>()?.relation.sql))
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.relation.sql)
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "quote" | "replace_path" | "load" => Ok(Value::from_dyn_object(Arc::clone(self))),
            "render" => Ok(Value::from(self.relation.sql.as_str())),
            "information_schema" => {
                let (view,): (Option<&str>,) = from_args(args)?;
                let view = view.map(|view| format!(".{}", quote(&view.to_ascii_lowercase())));
                Ok(Value::from(format!("information_schema{}", view.unwrap_or_default())))
            }
            "without_identifier" => Ok(Value::from(quote(&self.relation.schema))),
            "include" => {
                let (named,): (Kwargs,) = from_args(args)?;
                let schema: Option<bool> = named.get("schema")?;
                let sql =
                    if schema == Some(false) { quote(&self.relation.identifier) } else { self.relation.sql.clone() };
                let relation = Relation { sql, ..self.relation.clone() };
                Ok(Value::from_object(Self { id: self.id.clone(), relation }))
            }
            "incorporate" => {
                let (named,): (Kwargs,) = from_args(args)?;
                // Whatever else it may be given changes nothing that we know.
                let path: Option<Value> = named.get("path")?;
                let part = |key: &str, own: &str| match path.as_ref().and_then(|path| path.get_attr(key).ok()) {
                    Some(value) if !value.is_undefined() && !value.is_none() => value.to_string(),
                    _ => own.to_owned(),
                };
                let schema = part("schema", &self.relation.schema);
                let identifier = part("identifier", &self.relation.identifier);
                Ok(made(&schema, &identifier, None))
            }
            "get" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                Ok(self.get_value(&key).or(default).unwrap_or_else(|| Value::from(())))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// A relation from names.
fn made(schema: &str, identifier: &str, id: Option<NodeId>) -> Value {
    let sql = if schema.is_empty() { quote(identifier) } else { format!("{}.{}", quote(schema), quote(identifier)) };
    let relation = Relation { sql, schema: schema.to_owned(), identifier: identifier.to_owned() };
    Value::from_object(RelationValue { id, relation })
}

/// dbt's `adapter`, as far as it asks and does not write.
#[derive(Debug)]
pub(super) struct Adapter(pub(super) Arc<Session>);

impl Object for Adapter {
    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let session = &self.0;
        match method {
            "dispatch" => {
                let (name, second, named): (&str, Option<&str>, Kwargs) = from_args(args)?;
                let namespace: Option<&str> = named.get("macro_namespace")?;
                let _packages: Option<Value> = named.get("packages")?;
                // The older form names the package in front: `dbt_utils.star`.
                let (prefix, name) = name.rsplit_once('.').map_or((None, name), |(prefix, name)| (Some(prefix), name));
                dispatch(session, name, second.or(namespace).or(prefix))
            }
            "get_columns_in_relation" | "get_columns_in_table" => {
                let Some(relation) = args.first().and_then(|value| value.downcast_object_ref::<RelationValue>()) else {
                    return mutable::list(&Value::from(Vec::<Value>::new()));
                };
                let columns = columns(session, relation).map_err(fail)?.unwrap_or_default();
                mutable::list(&columns.into_iter().map(column_value).collect())
            }
            "get_missing_columns" => {
                let (from, to): (Value, Value) = from_args(args)?;
                let names = |value: &Value| -> Result<Vec<ColumnFacts>, Error> {
                    match value.downcast_object_ref::<RelationValue>() {
                        Some(relation) => Ok(columns(session, relation).map_err(fail)?.unwrap_or_default()),
                        None => Ok(Vec::new()),
                    }
                };
                let known = names(&to)?;
                let missing =
                    names(&from)?.into_iter().filter(|column| known.iter().all(|other| other.name != column.name));
                mutable::list(&missing.map(column_value).collect())
            }
            "get_relation" => {
                let (_, schema, identifier, named): (Option<Value>, Option<String>, Option<String>, Kwargs) =
                    from_args(args)?;
                let _database: Option<Value> = named.get("database")?;
                let schema = schema.or(named.get("schema")?).unwrap_or_default();
                let identifier = identifier.or(named.get("identifier")?).unwrap_or_default();
                Ok(find(session, &schema, &identifier))
            }
            "load_relation" => match args.first().and_then(|value| value.downcast_object_ref::<RelationValue>()) {
                Some(given) => Ok(find(session, &given.relation.schema, &given.relation.identifier)),
                None => Ok(Value::from(())),
            },
            "quote" => {
                let (name,): (&str,) = from_args(args)?;
                Ok(Value::from(format!("\"{}\"", name.replace('"', "\"\""))))
            }
            "quote_as_configured" | "quote_seed_column" => {
                let (name, _): (&str, Option<Value>) = from_args(args)?;
                Ok(Value::from(quote(name)))
            }
            "type" => Ok(Value::from("tidemill")),
            "check_schema_exists" => Ok(Value::from(true)),
            "already_exists" => {
                let (schema, identifier): (&str, &str) = from_args(args)?;
                Ok(Value::from(!find(session, schema, identifier).is_none()))
            }
            "execute" | "run_query" => {
                let _ = state;
                let (sql, _): (&str, Kwargs) = from_args(args)?;
                super::statement::answer(session, sql)
            }
            // Schemas are folders that come into being with their first table.
            "create_schema" | "cache_added" | "cache_dropped" | "cache_renamed" | "commit" => Ok(Value::from("")),
            "drop_relation"
            | "rename_relation"
            | "truncate_relation"
            | "drop_schema"
            | "expand_target_column_types" => {
                Err(fail(format!("templates cannot change tables, call=`adapter.{method}`")))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

fn dispatch(session: &Session, name: &str, namespace: Option<&str>) -> Result<Value, Error> {
    const PREFIXES: [&str; 4] = ["tidemill__", "postgres__", "duckdb__", "default__"];
    let configured = namespace.and_then(|namespace| session.known.dispatch.get(namespace));
    let packages: Vec<&str> = match (configured, namespace) {
        (Some(order), _) => order.iter().map(String::as_str).collect(),
        (None, Some(namespace)) => vec![session.known.project.as_str(), namespace],
        (None, None) => Vec::new(),
    };
    for package in &packages {
        for prefix in PREFIXES {
            if let Some(found) = session.macro_of(package, &format!("{prefix}{name}")) {
                return Ok(found);
            }
        }
    }
    PREFIXES.iter().find_map(|prefix| session.macro_named(&format!("{prefix}{name}"))).ok_or_else(|| {
        let place = namespace.map(|namespace| format!(", package=`{namespace}`")).unwrap_or_default();
        fail(format!("no macro to dispatch to, name=`default__{name}`{place}"))
    })
}

/// The relation of that name when there is such a table now, else none.
fn find(session: &Session, schema: &str, identifier: &str) -> Value {
    let Some(relations) = session.relations() else { return Value::from(()) };
    match relations.find(schema, identifier) {
        Some(found) if relations.exists(&found) => made(schema, identifier, Some(found)),
        _ => Value::from(()),
    }
}

/// Columns of a relation; `None` while a template is parsed.
fn columns(session: &Session, relation: &RelationValue) -> Result<Option<Vec<ColumnFacts>>, String> {
    let Some(relations) = session.relations() else { return Ok(None) };
    let node = relation.id.clone().or_else(|| relations.find(&relation.relation.schema, &relation.relation.identifier));
    match node {
        Some(node) => relations.columns(&node).map(Some),
        None => Ok(None),
    }
}

/// dbt's `Column`.
#[derive(Debug)]
struct ColumnValue(ColumnFacts);

fn column_value(column: ColumnFacts) -> Value {
    Value::from_object(ColumnValue(column))
}

impl Object for ColumnValue {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let column = &self.0;
        Some(match key.as_str()? {
            "name" | "column" => Value::from(column.name.as_str()),
            "quoted" => Value::from(format!("\"{}\"", column.name.replace('"', "\"\""))),
            "data_type" | "dtype" => Value::from(column.data_type.as_str()),
            "char_size" | "numeric_precision" | "numeric_scale" => Value::from(()),
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["name", "data_type"])
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Column {} ({})>", self.0.name, self.0.data_type)
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _args: &[Value],
    ) -> Result<Value, Error> {
        let kind = self.0.data_type.as_str();
        Ok(match method {
            "is_string" => Value::from(kind == "varchar"),
            "is_number" => Value::from(is_integer(kind) || is_float(kind) || kind.starts_with("decimal")),
            "is_numeric" => Value::from(kind.starts_with("decimal")),
            "is_integer" => Value::from(is_integer(kind)),
            "is_float" => Value::from(is_float(kind)),
            "string_size" => Value::from(i64::from(u16::MAX)),
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        })
    }
}

fn is_integer(kind: &str) -> bool {
    matches!(kind, "tinyint" | "smallint" | "integer" | "bigint")
}

fn is_float(kind: &str) -> bool {
    matches!(kind, "real" | "double")
}

/// `api.Relation.create(...)`, `api.Column.create(...)`.
#[derive(Debug)]
pub(super) struct Api;

impl Object for Api {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "Relation" => Some(Value::from_object(RelationClass)),
            "Column" => Some(Value::from_object(ColumnClass)),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct RelationClass;

impl Object for RelationClass {
    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "create" => {
                let (_, schema, identifier, named): (Option<Value>, Option<String>, Option<String>, Kwargs) =
                    from_args(args)?;
                for ignored in ["database", "type", "quote_policy"] {
                    let _: Option<Value> = named.get(ignored)?;
                }
                let schema = schema.or(named.get("schema")?).unwrap_or_default();
                let identifier = identifier.or(named.get("identifier")?).unwrap_or_default();
                Ok(made(&schema, &identifier, None))
            }
            "add_ephemeral_prefix" => {
                let (name,): (&str,) = from_args(args)?;
                Ok(Value::from(format!("__dbt__cte__{name}")))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

#[derive(Debug)]
struct ColumnClass;

impl Object for ColumnClass {
    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "create" => {
                let (name, data_type): (String, String) = from_args(args)?;
                Ok(column_value(ColumnFacts { name, data_type }))
            }
            // Our types need no translation.
            "translate_type" => Ok(args.first().cloned().unwrap_or_default()),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

fn fail(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
