//! Answers what templates ask about tables while they are rendered: columns, rows.
//!
//! Rendering is synchronous and reading a lake is not, so a question is answered on a thread of its own, with a runtime of
//! its own; the thread that renders waits. Few templates ask, and dbt's users know that those which do wait for a query.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result as QueryResult};
use futures::future::BoxFuture;
use serde_json::{Number, Value as Json};

use super::{BuildFault, Compiler, Result, Sessions};
use crate::plan::{is_stored, table_of};
use crate::project::NodeId;
use crate::render::{ColumnFacts, RenderContext, TableRows};

/// Answers questions for one run. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Asked {
    sessions: Sessions,
    render: RenderContext,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}

impl Asked {
    /// `sessions` of the run; their compiler need not answer questions itself.
    pub(crate) fn new(sessions: Sessions, render: RenderContext) -> Self {
        Self { sessions, render }
    }

    /// The same sessions, with a compiler that answers: views under a question may ask, too.
    fn sessions(&self) -> Sessions {
        let compiler: Compiler = self.sessions.compiler.asking(self.clone());
        Sessions { compiler, ..self.sessions.clone() }
    }

    /// Whether a node can be read now.
    pub(crate) fn exists(&self, node: &NodeId) -> bool {
        wait(self.exists_now(node.clone())).unwrap_or(false)
    }

    fn exists_now(&self, node: NodeId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let sessions = &self.sessions;
            if is_stored(&sessions.project, &node) {
                let Some(table) = table_of(&sessions.project, &node) else { return false };
                return matches!(sessions.snapshots.get(&table).await, Ok(Some(_)));
            }
            for parent in sessions.graph.parents(&node).cloned().collect::<Vec<_>>() {
                if !self.exists_now(parent).await {
                    return false;
                }
            }
            true
        })
    }

    /// Whether a node is a view whose own template asks: its columns cannot be part of an answer that it may wait for.
    fn may_ask(&self, node: &NodeId) -> bool {
        let sessions = &self.sessions;
        let NodeId::Model(name) = node else { return false };
        let model = sessions.project.models.get(name).filter(|_| !is_stored(&sessions.project, node));
        model.is_some_and(|model| sessions.compiler.renderer().asks(model))
    }

    /// Columns of a node; none when it was not built yet.
    pub(crate) fn columns(&self, node: &NodeId) -> Result<Vec<ColumnFacts>, String> {
        let (sessions, render, asked) = (self.sessions(), self.render.clone(), node.clone());
        let answer: Result<Vec<ColumnFacts>, String> = wait(async move {
            if !self.exists_now(asked.clone()).await {
                return Ok(Vec::new());
            }
            let provider = sessions.one(&asked, &render).await.map_err(|fault| told(&fault))?;
            Ok(facts(&provider.schema()))
        })?;
        answer
    }

    /// The rows of a query over everything that the project names.
    pub(crate) fn query(&self, sql: &str) -> Result<TableRows, String> {
        wait(self.rows(sql))?
    }

    /// The same, for callers that need not wait.
    pub(crate) fn rows<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<TableRows, String>> {
        let (sessions, render) = (self.sessions(), self.render.clone());
        Box::pin(async move {
            let context = sessions.empty();
            // Who asks which tables there are is told of those that there are; who names one that is not there learns why.
            let asks_for_all = sql.to_ascii_lowercase().contains("information_schema");
            let mut schemas: BTreeMap<String, BTreeMap<String, NodeId>> = BTreeMap::new();
            for node in sessions.graph.order() {
                let Some(relation) = sessions.compiler.relation(node) else { continue };
                if asks_for_all && (self.may_ask(node) || !self.exists_now(node.clone()).await) {
                    continue;
                }
                schemas.entry(relation.schema).or_default().insert(relation.identifier, node.clone());
            }
            if let Some(catalog) = context.catalog("datafusion") {
                for (name, tables) in schemas {
                    let schema = Nodes { tables, sessions: sessions.clone(), render: render.clone() };
                    catalog.register_schema(&name, Arc::new(schema)).map_err(|error| error.to_string())?;
                }
            }
            let frame = crate::sql::plan(&context, sql).await.map_err(|error| explained(&error))?;
            let columns = facts(frame.schema().as_arrow());
            let batches = frame.collect().await.map_err(|error| explained(&error))?;
            let mut rows = Vec::new();
            for batch in &batches {
                for row in 0..batch.num_rows() {
                    rows.push(batch.columns().iter().map(|column| cell(column, row)).collect());
                }
            }
            Ok(TableRows { columns, rows })
        })
    }
}

/// Runs a future to its end on a thread of its own.
fn wait<T: Send>(future: impl Future<Output = T> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .map(|runtime| runtime.block_on(future))
                .map_err(|error| format!("a question could not be asked: {error}"))
        });
        answering.join().unwrap_or_else(|_| Err("a question ended without an answer".to_owned()))
    })
}

fn told(fault: &BuildFault) -> String {
    use tidemill_project::Diagnostic as _;
    match fault.hint() {
        Some(hint) => format!("{fault}; {hint}"),
        None => fault.to_string(),
    }
}

fn explained(error: &DataFusionError) -> String {
    if let DataFusionError::External(inner) = error.find_root()
        && let Some(fault) = inner.downcast_ref::<BuildFault>()
    {
        return told(fault);
    }
    let found = crate::sql::trouble(error);
    match found.hint {
        Some(hint) => format!("query of a template failed: {}; {hint}", found.message),
        None => format!("query of a template failed: {}", found.message),
    }
}

/// Columns with types in words that SQL takes.
pub(crate) fn facts(schema: &Schema) -> Vec<ColumnFacts> {
    schema
        .fields()
        .iter()
        .map(|field| ColumnFacts { name: field.name().clone(), data_type: type_name(field.data_type()) })
        .collect()
}

/// A type in words that SQL takes.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "tinyint".to_owned(),
        DataType::Int16 => "smallint".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 | DataType::UInt64 | DataType::UInt32 => "bigint".to_owned(),
        DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "varchar".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".to_owned(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("decimal({precision}, {scale})")
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea".to_owned(),
        other => other.to_string(),
    }
}

fn cell(column: &ArrayRef, row: usize) -> Json {
    if column.is_null(row) {
        return Json::Null;
    }
    let float = |value: f64| Number::from_f64(value).map_or(Json::Null, Json::Number);
    match column.data_type() {
        DataType::Boolean => Json::Bool(column.as_boolean().value(row)),
        DataType::Int8 => Json::from(column.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => Json::from(column.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => Json::from(column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Json::from(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => float(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        _ => {
            let text = array_value_to_string(column, row).unwrap_or_default();
            match column.data_type() {
                DataType::Decimal128(..) | DataType::Decimal256(..) | DataType::UInt64 | DataType::UInt32 => {
                    serde_json::from_str::<Number>(&text).map_or(Json::String(text), Json::Number)
                }
                _ => Json::String(text),
            }
        }
    }
}

/// The project's nodes of one schema; each is opened when a query names it.
struct Nodes {
    tables: BTreeMap<String, NodeId>,
    sessions: Sessions,
    render: RenderContext,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("tables", &self.tables).finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for Nodes {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> QueryResult<Option<Arc<dyn TableProvider>>> {
        let Some(node) = self.tables.get(name) else { return Ok(None) };
        let found = self.sessions.one(node, &self.render).await;
        found.map(Some).map_err(|fault| DataFusionError::External(Box::new(fault)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}
