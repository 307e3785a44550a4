//! `tidemill docs generate`

use std::collections::BTreeMap;

use serde_json::json;
use tidemill_transform::artifacts::{self, names};
use tidemill_transform::docs::{SiteParts, page};
use tidemill_transform::graph::Selection;
use tidemill_transform::project::NodeId;

use super::context::shown;
use super::workspace::Workspace;
use crate::args::{DocsArgs, GlobalArgs};
use crate::exit::Exit;
use crate::printer::Printer;

/// The page's name in the target folder.
const INDEX: &str = "index.html";

/// Writes the site, `manifest.json`, `catalog.json` and `column_lineage.json`.
pub(crate) async fn generate(global: &GlobalArgs, args: DocsArgs, printer: Printer) -> anyhow::Result<Exit> {
    let workspace = Workspace::load(global)?;
    let runner = &workspace.runner;
    let options = workspace.plan_options();
    let mut compiled: BTreeMap<NodeId, String> = BTreeMap::new();
    if !args.no_compile {
        let resource_types = ["model", "snapshot"].map(str::to_owned).to_vec();
        let selection = Selection { resource_types, ..workspace.select(&args.selection, printer)? };
        let by_name: BTreeMap<String, &NodeId> = runner.graph().order().map(|node| (node.to_string(), node)).collect();
        for node in runner.compile(&selection, &options).await? {
            if let Some(id) = by_name.get(&node.node) {
                compiled.insert((*id).clone(), node.sql);
            }
        }
    }
    let invocation = workspace.invocation();
    let manifest = runner.manifest(&invocation, &compiled);
    let catalog = runner.catalog(&invocation, &options).await?;
    let lineage = runner.column_lineage(&options).await?;
    let parts = SiteParts {
        manifest: &manifest,
        catalog: &catalog,
        results: &artifacts::read_optional(&workspace.target, names::RUN_RESULTS)?,
        sources: &artifacts::read_optional(&workspace.target, names::SOURCES)?,
        lineage: &lineage,
    };
    let html = page(runner, &parts, &workspace.invocation());
    artifacts::write(&workspace.target, names::MANIFEST, &manifest)?;
    artifacts::write(&workspace.target, names::CATALOG, &catalog)?;
    let lineage = artifacts::column_lineage(runner, &lineage, &invocation);
    artifacts::write(&workspace.target, names::COLUMN_LINEAGE, &lineage)?;
    artifacts::write_bytes(&workspace.target, INDEX, html.as_bytes())?;
    let path = shown(&workspace.target.join(INDEX));
    let text = format!("Wrote {path} ({} kB); open it in a browser.\n", html.len() / 1000);
    printer.result(&json!({ "page": path, "bytes": html.len() }), &text);
    Ok(Exit::Done)
}
