//! `tidemill seed | snapshot | compile | show | parse`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;
use tidemill_transform::artifacts::{self, names};
use tidemill_transform::project::NodeId;
use tidemill_transform::run::{BuildOptions, Compiled, Kinds};

use super::build::build_in;
use super::query::print_rows;
use super::workspace::{Workspace, recorded_args};
use crate::args::{CompileArgs, GlobalArgs, MetricsArgs, ShowArgs, WorkArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table, thousands};

/// Loads seeds.
pub(crate) async fn seed(global: &GlobalArgs, args: WorkArgs, printer: Printer) -> anyhow::Result<Exit> {
    some("seed", global, args, Kinds::SEEDS, printer).await
}

/// Brings snapshots up to date.
pub(crate) async fn snapshot(global: &GlobalArgs, args: WorkArgs, printer: Printer) -> anyhow::Result<Exit> {
    some("snapshot", global, args, Kinds::SNAPSHOTS, printer).await
}

async fn some(
    which: &str,
    global: &GlobalArgs,
    args: WorkArgs,
    kinds: Kinds,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let workspace = Workspace::load(global)?;
    let selection = workspace.select(&args.selection, printer)?;
    if args.dry_run {
        let seeds = workspace.runner.plan_seeds(&selection, args.full_refresh).await?;
        let mut rows = vec![["seed", "action", "rows"].map(str::to_owned).to_vec()];
        for seed in &seeds {
            let action = if seed.is_due { "load" } else { "nothing" };
            rows.push(vec![seed.seed.clone(), action.to_owned(), thousands(seed.rows)]);
        }
        printer.result(&json!({ "dry_run": true, "seeds": seeds }), &table(&rows));
        return Ok(Exit::Done);
    }
    let mut options = BuildOptions {
        plan: workspace.plan_options(),
        kinds,
        fail_fast: args.fail_fast,
        all_tests: true,
        run_id: Some(workspace.context.run_id.clone()),
        ..BuildOptions::default()
    };
    options.plan.full_refresh = args.full_refresh;
    let mut recorded = recorded_args(which, global, &args.selection);
    recorded.insert("full_refresh".to_owned(), json!(args.full_refresh));
    Box::pin(build_in(&workspace, &selection, &options, recorded, &MetricsArgs::default(), printer)).await
}

/// Renders models to SQL, on the screen and below the target folder.
pub(crate) async fn compile(global: &GlobalArgs, args: CompileArgs, printer: Printer) -> anyhow::Result<Exit> {
    let workspace = Workspace::load(global)?;
    let options = workspace.plan_options();
    if let Some(template) = &args.inline {
        let sql = workspace.runner.compile_inline(template, &options).await?;
        printer.result(&json!({ "sql": sql }), &format!("{}\n", sql.trim()));
        return Ok(Exit::Done);
    }
    let selection = workspace.select(&args.selection, printer)?;
    let compiled = workspace.runner.compile(&selection, &options).await?;
    let by_name: BTreeMap<String, &NodeId> =
        workspace.runner.graph().order().map(|node| (node.to_string(), node)).collect();
    let texts =
        compiled.iter().filter_map(|node| Some(((*by_name.get(&node.node)?).clone(), node.sql.clone()))).collect();
    let text = std::thread::scope(|scope| {
        // The manifest takes about as long as the files of the models, and either is one thread's work.
        let files = scope.spawn(|| write_compiled(&workspace, &compiled, &by_name));
        workspace.write_manifest(&texts, printer);
        files.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    printer.result(&compiled, &text);
    Ok(Exit::Done)
}

/// Writes compiled SQL to dbt's place for it, and returns all of it as people read it.
fn write_compiled(
    workspace: &Workspace,
    compiled: &[Compiled],
    by_name: &BTreeMap<String, &NodeId>,
) -> anyhow::Result<String> {
    let package = &workspace.runner.project().name;
    let mut text = String::new();
    for node in compiled {
        // Writing to a string cannot fail.
        let _ = write!(text, "-- {} ({})\n{}\n\n", node.node, node.path, node.sql.trim());
        // That of a test lies below the file that declares it.
        let name = match by_name.get(&node.node) {
            Some(NodeId::Test(name)) if Path::new(&node.path).extension().is_none_or(|found| found != "sql") => {
                format!("{}/{name}.sql", node.path)
            }
            _ => node.path.clone(),
        };
        artifacts::write_bytes(&workspace.target, &format!("compiled/{package}/{name}"), node.sql.as_bytes())?;
    }
    Ok(text)
}

/// Prints rows of models, or of a query, without storing them.
pub(crate) async fn show(global: &GlobalArgs, args: ShowArgs, printer: Printer) -> anyhow::Result<Exit> {
    let workspace = Workspace::load(global)?;
    let options = workspace.plan_options();
    let runner = &workspace.runner;
    if let Some(template) = &args.inline {
        let rows = runner.show_inline(template, args.limit, &options).await?;
        print_rows(&rows, None, printer)?;
        return Ok(Exit::Done);
    }
    let listed = runner.ls(&workspace.select(&args.selection, printer)?)?;
    for node in listed.iter().filter(|node| ["model", "snapshot", "seed"].contains(&node.kind)) {
        let batches = runner.show(&node.name, args.limit, &options).await?;
        if listed.len() > 1 {
            printer.note(&node.node);
        }
        print_rows(&batches, None, printer)?;
    }
    Ok(Exit::Done)
}

/// Reads and checks the project and writes its manifest.
pub(crate) fn parse(global: &GlobalArgs, printer: Printer) -> anyhow::Result<Exit> {
    let watch = tidemill_project::clock::Clock::system().stopwatch();
    let workspace = Workspace::load(global)?;
    let read_ms = watch.elapsed().as_millis();
    let manifest = workspace.runner.manifest(&workspace.invocation(), &BTreeMap::new());
    artifacts::write(&workspace.target, names::MANIFEST, &manifest)?;
    let wrote_ms = watch.elapsed().as_millis() - read_ms;
    let project = workspace.runner.project();
    let counts = json!({
        "models": project.models.len(),
        "seeds": project.seeds.len(),
        "sources": project.sources.len(),
        "tests": project.generic_tests.len() + project.singular_tests.len(),
        "unit_tests": project.unit_tests.len(),
        "exposures": project.extras.exposures.len(),
        "macros": project.macros.len(),
    });
    let told: Vec<String> = counts
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, count)| **count != json!(0))
        .map(|(kind, count)| format!("{count} {}", kind.replace('_', " ")))
        .collect();
    let path = super::context::shown(&workspace.target.join(names::MANIFEST));
    let text = format!("Parsed {} in {read_ms} ms; wrote {path} in {wrote_ms} ms.\n", told.join(", "));
    let object = json!({"counts": counts, "parse_ms": read_ms, "write_ms": wrote_ms, "manifest": path});
    printer.result(&object, &text);
    Ok(Exit::Done)
}
