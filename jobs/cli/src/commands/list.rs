//! `tidemill ls`

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use tidemill_transform::artifacts;

use super::workspace::Workspace;
use crate::args::{Format, GlobalArgs, LsArgs, LsOutput};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::report::UsageError;

/// What dbt prints of a node unless other keys are asked for.
const KEYS: [&str; 10] = [
    "alias",
    "name",
    "package_name",
    "depends_on",
    "tags",
    "config",
    "resource_type",
    "source_name",
    "original_file_path",
    "unique_id",
];

/// The key of a model's columns with what each is computed from.
const LINEAGE: &str = "column_lineage";

/// Lists nodes.
pub(crate) async fn run(global: &GlobalArgs, args: &LsArgs, printer: Printer) -> anyhow::Result<Exit> {
    let workspace = Workspace::load(global)?;
    let runner = &workspace.runner;
    let selection = workspace.select(&args.selection, printer)?;
    if printer.format() == Format::Json {
        printer.result(&runner.ls(&selection)?, "");
        return Ok(Exit::Done);
    }
    if !args.output_keys.is_empty() && args.output != LsOutput::Json {
        return Err(UsageError { message: "--output-keys goes with --output json".to_owned() }.into());
    }
    let nodes = runner.graph().select(&selection)?;
    let mut text = String::new();
    if args.output == LsOutput::Json {
        let manifest = runner.manifest(&workspace.invocation(), &BTreeMap::new());
        let by_id = runner.unique_ids();
        // Models are planned for it, so it is not there unless it is asked for.
        let wants_lineage = args.output_keys.iter().any(|keys| keys.contains(LINEAGE));
        let lineage = if wants_lineage {
            let lineage = runner.column_lineage(&workspace.plan_options()).await?;
            artifacts::column_lineage(runner, &lineage, &workspace.invocation())
        } else {
            Json::Null
        };
        for node in &nodes {
            let Some(id) = by_id.get(node) else { continue };
            let parts = ["nodes", "sources", "exposures"];
            let Some(object) = parts.iter().find_map(|part| manifest[*part].get(id)?.as_object()) else { continue };
            let mut object = object.clone();
            if wants_lineage {
                object.insert(LINEAGE.to_owned(), lineage["nodes"][id]["columns"].clone());
            }
            let object = &object;
            text.push_str(&Json::Object(keys_of(object, &args.output_keys)?).to_string());
            text.push('\n');
        }
    } else {
        for node in &nodes {
            text.push_str(&match args.output {
                LsOutput::Name => node.name(),
                LsOutput::Path => runner.graph().get(node).map(|node| node.path.clone()).unwrap_or_default(),
                LsOutput::Selector | LsOutput::Json => runner.selector_of(node),
            });
            text.push('\n');
        }
    }
    printer.data(text.as_bytes());
    Ok(Exit::Done)
}

/// The wanted keys of a node; `config.materialized` reaches into mappings. A key that the node does not have is left out, one
/// that no node can have is a mistake.
fn keys_of(object: &Map<String, Json>, wanted: &[String]) -> anyhow::Result<Map<String, Json>> {
    if wanted.is_empty() {
        return Ok(KEYS.iter().filter_map(|key| Some(((*key).to_owned(), object.get(*key)?.clone()))).collect());
    }
    let mut found = Map::new();
    for key in wanted.iter().flat_map(|key| key.split([' ', ','])).filter(|key| !key.is_empty()) {
        let mut parts = key.split('.');
        let mut value = parts.next().and_then(|first| object.get(first));
        for part in parts {
            value = value.and_then(|value| value.get(part));
        }
        match value {
            Some(value) => {
                found.insert(key.to_owned(), value.clone());
            }
            None if key.contains('.') || KEYS.contains(&key) => {}
            None => {
                if let Some(near) = tidemill_project::error::nearest(key, object.keys().map(String::as_str)) {
                    let message = format!("nodes of the manifest have no key `{key}`; did you mean `{near}`?");
                    return Err(UsageError { message }.into());
                }
            }
        }
    }
    Ok(found)
}
