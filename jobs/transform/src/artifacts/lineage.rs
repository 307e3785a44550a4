//! `column_lineage.json`: which columns of other nodes each column of a model is computed from.

use serde_json::{Map, Value as Json, json};

use super::Invocation;
use super::ids::Ids;
use crate::run::{ColumnLineage, Lineage, Runner};

/// The artifact: `nodes.<unique id>.columns.<name>` with `derivation` (`passthrough`, `rename`, `transformation`, dbt's words) and
/// `from[]` with `unique_id` and `column`.
#[must_use]
pub fn column_lineage(runner: &Runner, lineage: &Lineage, invocation: &Invocation) -> Json {
    let ids = Ids::of(runner.graph());
    let nodes: Map<String, Json> = lineage
        .iter()
        .map(|(node, columns)| {
            let columns: Map<String, Json> =
                columns.iter().map(|(name, column)| (name.clone(), told(&ids, column))).collect();
            (ids.get(node).to_owned(), json!({ "columns": columns }))
        })
        .collect();
    let mut metadata = invocation.metadata("catalog/v1");
    metadata.remove("dbt_schema_version");
    metadata.insert("schema_version".to_owned(), json!("tidemill/column-lineage/v1"));
    json!({ "metadata": metadata, "nodes": nodes })
}

fn told(ids: &Ids, column: &ColumnLineage) -> Json {
    let from: Vec<Json> =
        column.from.iter().map(|(node, column)| json!({"unique_id": ids.get(node), "column": column})).collect();
    json!({ "derivation": column.derivation, "from": from })
}
