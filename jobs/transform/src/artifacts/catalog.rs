//! `catalog.json`: columns and sizes as the lake has them.

use arrow::datatypes::{DataType, SchemaRef};
use serde_json::{Map, Value as Json, json};

use super::Invocation;
use super::ids::Ids;
use crate::plan::{BATCH_COLUMN, PlanOptions, is_stored, table_of};
use crate::project::NodeId;
use crate::run::{BuildError, BuildFault, Runner};

impl Runner {
    /// The catalog of all models, seeds and sources that are there. Reads logs and plans the SQL of views; no data is read.
    /// What cannot be opened stands in `errors`.
    ///
    /// # Errors
    /// The lake's store, as a whole.
    pub async fn catalog(&self, invocation: &Invocation, options: &PlanOptions) -> Result<Json, BuildError> {
        let executor = self.executor(options, "docs").await?;
        let render = Self::looking(&executor);
        let ids = Ids::of(self.graph());
        let mut nodes = Map::new();
        let mut sources = Map::new();
        let mut errors = Vec::new();
        for node in self.graph().order() {
            if matches!(node, NodeId::Test(_) | NodeId::Exposure(_)) {
                continue;
            }
            let Some(relation) = self.compiler.relation(node) else { continue };
            let comment = self.description(node);
            let mut stats = json!({"has_stats": stat("has_stats", "Has statistics?", &json!(false), false)});
            let (schema, kind) = if is_stored(self.project(), node) {
                let Some(id) = table_of(self.project(), node) else { continue };
                let Some(table) = executor.sessions.snapshots.get(&id).await? else { continue };
                let files = table.files();
                let rows: Option<u64> = files.iter().map(|file| file.num_records).sum();
                let bytes: u64 = files.iter().map(|file| file.size).sum();
                stats = json!({
                    "has_stats": stat("has_stats", "Has statistics?", &json!(true), false),
                    "num_rows": stat("num_rows", "Rows", &json!(rows), rows.is_some()),
                    "bytes": stat("bytes", "Bytes", &json!(bytes), true),
                    "num_files": stat("num_files", "Files", &json!(files.len()), true),
                    "version": stat("version", "Delta version", &json!(table.version().0), true),
                });
                (table.schema(), "BASE TABLE")
            } else {
                match executor.sessions.one(node, &render).await {
                    Ok(view) => (view.schema(), "VIEW"),
                    // A view over something that was not built yet is not there either.
                    Err(BuildFault::UpstreamMissing { .. } | BuildFault::SourceMissing { .. }) => continue,
                    Err(fault) => {
                        errors.push(format!("{node}: {fault}"));
                        continue;
                    }
                }
            };
            let object = json!({
                "metadata": {
                    "type": kind,
                    "schema": relation.schema,
                    "name": relation.identifier,
                    "database": Json::Null,
                    "comment": comment,
                    "owner": Json::Null,
                },
                "columns": self.catalog_columns(node, &schema),
                "stats": stats,
                "unique_id": ids.get(node),
            });
            let into = if matches!(node, NodeId::Source(_)) { &mut sources } else { &mut nodes };
            into.insert(ids.get(node).to_owned(), object);
        }
        Ok(json!({
            "metadata": invocation.metadata("catalog/v1"),
            "nodes": nodes,
            "sources": sources,
            "errors": if errors.is_empty() { Json::Null } else { json!(errors) },
        }))
    }

    fn description(&self, node: &NodeId) -> Option<String> {
        let project = self.project();
        let text = match node {
            NodeId::Model(name) => &project.models.get(name)?.description,
            NodeId::Seed(name) => &project.seeds.get(name)?.description,
            NodeId::Source(name) => &project.sources.get(name)?.description,
            NodeId::Test(_) | NodeId::Exposure(_) => return None,
        };
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn catalog_columns(&self, node: &NodeId, schema: &SchemaRef) -> Map<String, Json> {
        let project = self.project();
        let described = match node {
            NodeId::Model(name) => project.models.get(name).map(|model| &model.columns),
            NodeId::Seed(name) => project.seeds.get(name).map(|seed| &seed.columns),
            NodeId::Source(name) => project.sources.get(name).map(|source| &source.columns),
            NodeId::Test(_) | NodeId::Exposure(_) => None,
        };
        let visible = schema.fields().iter().filter(|field| field.name() != BATCH_COLUMN);
        let columns = visible.enumerate().map(|(index, field)| {
            let comment = described
                .and_then(|columns| columns.get(field.name()))
                .map(|column| column.description.clone())
                .filter(|text| !text.is_empty());
            let object = json!({
                "type": type_name(field.data_type()),
                "index": index + 1,
                "name": field.name(),
                "comment": comment,
            });
            (field.name().clone(), object)
        });
        columns.collect()
    }
}

fn stat(id: &str, label: &str, value: &Json, include: bool) -> Json {
    json!({"id": id, "label": label, "value": value, "include": include, "description": Json::Null})
}

/// The type as SQL and YAML write it.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 | DataType::Int16 => "smallint".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "varchar".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        other => other.to_string().to_lowercase(),
    }
}
