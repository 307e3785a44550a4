//! Sessions in which a model's SQL finds its inputs.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    TableProvider,
};
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::Result as QueryResult;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use tidemill_lake::{Engine, Table, TableId};
use tidemill_project::error::nearest;

use super::rows::stored_type;
use super::{BuildFault, Compiler, Result, Snapshots};
use crate::graph::Graph;
use crate::plan::{BATCH_COLUMN, is_stored, table_of};
use crate::project::{NodeId, Project, SourceTable};
use crate::render::RenderContext;

/// DataFusion's default catalog.
const CATALOG: &str = "datafusion";

/// Builds sessions for one run.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    pub project: Arc<Project>,
    pub graph: Arc<Graph>,
    pub compiler: Compiler,
    pub snapshots: Arc<Snapshots>,
    pub engine: Engine,
}

/// What one stored input shows in place of its whole.
#[derive(Clone, Debug)]
pub(crate) struct Narrowing {
    /// Path of the table.
    pub path: String,
    /// As its readers see it.
    pub shown: Arc<dyn TableProvider>,
    /// The table that plans scan in the end.
    pub base: Arc<dyn TableProvider>,
}

/// Inputs that do not show all that they hold.
pub(crate) type Narrowed<'a> = Option<&'a [Narrowing]>;

impl Sessions {
    /// A session that knows our functions and no table.
    pub(crate) fn empty(&self) -> SessionContext {
        let context = self.engine.session();
        crate::udf::register_all(&context);
        context
    }

    /// A session in which every node of `nodes` can be read by its name, whole: tables as this run sees them, views as their
    /// plans.
    pub(crate) async fn over(
        &self,
        nodes: impl IntoIterator<Item = NodeId>,
        render: &RenderContext,
        narrowed: Narrowed<'_>,
    ) -> Result<SessionContext> {
        let context = self.empty();
        for node in nodes {
            self.add(&context, &node, render, narrowed).await?;
        }
        Ok(context)
    }

    /// One node as a table.
    pub(crate) async fn one(&self, node: &NodeId, render: &RenderContext) -> Result<Arc<dyn TableProvider>> {
        let context = self.over([node.clone()], render, None).await?;
        let Some(relation) = self.compiler.relation(node) else {
            return Err(BuildFault::UnknownNode { node: node.clone() });
        };
        let name = TableReference::partial(relation.schema, relation.identifier);
        context.table_provider(name).await.map_err(BuildFault::plan(node, None))
    }

    /// Adds a model's own table under its name, for `this` in incremental SQL.
    pub(crate) async fn add_this(&self, context: &SessionContext, node: &NodeId) -> Result<()> {
        let (Some(relation), Some(id)) = (self.compiler.relation(node), table_of(&self.project, node)) else {
            return Ok(());
        };
        if let Some(table) = self.snapshots.open_fresh(&id).await? {
            let name = TableReference::partial(relation.schema, relation.identifier);
            register(context, &name, provider_of(context, &table, None)?).map_err(BuildFault::plan(node, None))?;
        }
        Ok(())
    }

    fn add<'a>(
        &'a self,
        context: &'a SessionContext,
        node: &'a NodeId,
        render: &'a RenderContext,
        narrowed: Narrowed<'a>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(relation) = self.compiler.relation(node) else {
                return Err(BuildFault::UnknownNode { node: node.clone() });
            };
            let name = TableReference::partial(relation.schema, relation.identifier);
            if is_registered(context, &name) {
                return Ok(());
            }
            let provider = if is_stored(&self.project, node) {
                self.stored(context, node, narrowed).await?
            } else {
                self.inlined(context, node, render, narrowed).await?
            };
            register(context, &name, provider).map_err(BuildFault::plan(node, None))?;
            Ok(())
        })
    }

    async fn inlined(
        &self,
        context: &SessionContext,
        node: &NodeId,
        render: &RenderContext,
        narrowed: Narrowed<'_>,
    ) -> Result<Arc<dyn TableProvider>> {
        let view =
            self.project.models.get(&node.name()).ok_or_else(|| BuildFault::UnknownNode { node: node.clone() })?;
        for parent in self.graph.parents(node) {
            self.add(context, parent, render, narrowed).await?;
        }
        Ok(self.compiler.frame(context, view, render).await?.into_view())
    }

    async fn stored(
        &self,
        context: &SessionContext,
        node: &NodeId,
        narrowed: Narrowed<'_>,
    ) -> Result<Arc<dyn TableProvider>> {
        let id = table_of(&self.project, node).ok_or_else(|| BuildFault::UnknownNode { node: node.clone() })?;
        let path = id.path();
        if let Some(narrowing) = narrowed.unwrap_or_default().iter().find(|narrowing| narrowing.path == path) {
            return Ok(Arc::clone(&narrowing.shown));
        }
        match self.snapshots.get(&id).await? {
            Some(table) => provider_of(context, &table, None),
            None => self.absent(context, node).await,
        }
    }

    /// A table that does not exist yet: empty with the declared columns when a contract says that it will.
    async fn absent(&self, context: &SessionContext, node: &NodeId) -> Result<Arc<dyn TableProvider>> {
        let NodeId::Source(name) = node else {
            return Err(BuildFault::UpstreamMissing { upstream: node.name() });
        };
        match self.project.sources.get(name) {
            Some(source) if source.has_contract => {
                Ok(Arc::new(EmptyTable::new(declared_schema(context, source).await)))
            }
            source => Err(BuildFault::SourceMissing {
                source_name: name.to_string(),
                location: source.map(|source| source.location.clone()),
            }),
        }
    }
}

/// A table's rows as its readers see them: without the partition column of batches. `part` shows some of its files.
pub(crate) fn provider_of(
    context: &SessionContext,
    table: &Table,
    part: Option<Arc<dyn TableProvider>>,
) -> Result<Arc<dyn TableProvider>, BuildFault> {
    let id: &TableId = table.id();
    let provider = match part {
        Some(part) => part,
        None => table.provider().map_err(BuildFault::lake(id))?,
    };
    if !table.partition_columns().iter().any(|column| column == BATCH_COLUMN) {
        return Ok(provider);
    }
    let visible = context.read_table(provider).and_then(|frame| frame.drop_columns(&[BATCH_COLUMN]));
    let node = NodeId::Model(id.path());
    Ok(visible.map_err(BuildFault::plan(&node, None))?.into_view())
}

fn is_registered(context: &SessionContext, name: &TableReference) -> bool {
    let schema = context.catalog(CATALOG).and_then(|catalog| catalog.schema(name.schema().unwrap_or_default()));
    schema.is_some_and(|schema| schema.table_exist(name.table()))
}

/// Registers a table, and its schema when it is the first.
pub(crate) fn register(
    context: &SessionContext,
    name: &TableReference,
    provider: Arc<dyn TableProvider>,
) -> QueryResult<()> {
    if let (Some(schema), Some(catalog)) = (name.schema(), context.catalog(CATALOG))
        && catalog.schema(schema).is_none()
    {
        catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
    }
    context.register_table(name.clone(), provider)?;
    Ok(())
}

/// A session with the functions and settings of `base` and no tables: those of one batch come in under the same names.
pub(crate) fn beside(base: &SessionContext) -> SessionContext {
    let catalogs = MemoryCatalogProviderList::new();
    let catalog = MemoryCatalogProvider::new();
    let public: Arc<dyn datafusion::catalog::SchemaProvider> = Arc::new(MemorySchemaProvider::new());
    // A fresh catalog takes any schema, so there is no answer to look at.
    let _ = catalog.register_schema("public", public);
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    let state = SessionStateBuilder::new_from_existing(base.state()).with_catalog_list(Arc::new(catalogs)).build();
    SessionContext::new_with_state(state)
}

/// The columns that a raw table will have, from its declaration.
pub(crate) async fn declared_schema(context: &SessionContext, source: &SourceTable) -> SchemaRef {
    let mut fields = Vec::new();
    for column in source.columns.values() {
        let data_type = match &column.data_type {
            Some(text) => sql_type(context, text).await.unwrap_or(DataType::Utf8),
            None => DataType::Utf8,
        };
        fields.push(Field::new(&column.name, data_type, true));
    }
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let by_hour = source.meta.get("tidemill").unwrap_or(&serde_json::Value::Null);
    let by_hour =
        by_hour.get("partition_by").or_else(|| source.meta.get("partition_by")).and_then(|value| value.as_str())
            == Some("hour");
    for (name, data_type) in [
        ("_key", DataType::Utf8),
        ("_topic", DataType::Utf8),
        ("_partition", DataType::Int32),
        ("_offset", DataType::Int64),
        ("_timestamp", instant.clone()),
        ("_ingested_at", instant.clone()),
        ("_extra", DataType::Utf8),
        ("event_at", instant),
        ("event_date", DataType::Date32),
    ] {
        fields.push(Field::new(name, data_type, true));
    }
    if by_hour {
        fields.push(Field::new("event_hour", DataType::Int32, true));
    }
    Arc::new(Schema::new(fields))
}

/// Names of types, for "did you mean".
const TYPE_NAMES: [&str; 24] = [
    "text",
    "varchar",
    "string",
    "char",
    "boolean",
    "bool",
    "tinyint",
    "smallint",
    "integer",
    "int",
    "bigint",
    "int64",
    "float",
    "float64",
    "double",
    "real",
    "decimal",
    "numeric",
    "number",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "datetime",
];

/// What somebody may have meant by a type that nobody knows.
pub(crate) fn type_hint(text: &str) -> String {
    let name = text.split('(').next().unwrap_or_default().trim().to_ascii_lowercase();
    match nearest(&name, TYPE_NAMES) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "known are, among others: {}",
            ["text", "bigint", "double", "decimal(16, 2)", "boolean", "date", "timestamp"].join(", ")
        ),
    }
}

/// The stored type that a SQL type name stands for: DataFusion's own names and those that dbt projects use beside them.
pub(crate) async fn sql_type(context: &SessionContext, text: &str) -> Option<DataType> {
    let text = text.trim().to_ascii_lowercase();
    match text.as_str() {
        "json" | "variant" | "uuid" | "object" | "super" => return Some(DataType::Utf8),
        // dbt's cross-database names.
        "integer" | "int" | "number" => return Some(DataType::Int64),
        _ => {}
    }
    let frame = crate::sql::plan(context, &format!("select cast(null as {text}) as value")).await.ok()?;
    stored_type(frame.schema().field(0).data_type())
}
