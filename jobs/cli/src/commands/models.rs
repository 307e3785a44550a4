//! `tidemill seed | compile | show | ls`

use tidemill_transform::plan::PlanOptions;
use tidemill_transform::run::{BuildOptions, Kinds};

use super::build::{build, runner, selection};
use super::context::Context;
use super::query::print_rows;
use crate::args::{GlobalArgs, SelectArgs, ShowArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table};

fn plan_options(context: &Context) -> PlanOptions {
    PlanOptions { as_of_us: context.as_of_us, ..PlanOptions::default() }
}

/// Loads seeds.
pub(crate) async fn seed(global: &GlobalArgs, args: SelectArgs, printer: Printer) -> anyhow::Result<Exit> {
    some(global, args, Kinds::SEEDS, printer).await
}

async fn some(global: &GlobalArgs, args: SelectArgs, kinds: Kinds, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let options = BuildOptions {
        plan: plan_options(&context),
        kinds,
        all_tests: true,
        run_id: Some(context.run_id.clone()),
        ..BuildOptions::default()
    };
    Box::pin(build(&runner(&context)?, &selection(args), &options, printer)).await
}

/// Renders models to SQL.
pub(crate) async fn compile(global: &GlobalArgs, args: SelectArgs, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let compiled = runner(&context)?.compile(&selection(args), &plan_options(&context)).await?;
    let mut text = String::new();
    for node in &compiled {
        text.push_str(&format!("-- {} ({})\n{}\n\n", node.node, node.path, node.sql.trim()));
    }
    printer.result(&compiled, &text);
    Ok(Exit::Done)
}

/// Prints rows of models without storing them.
pub(crate) async fn show(global: &GlobalArgs, args: ShowArgs, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let runner = runner(&context)?;
    let listed = runner.ls(&selection(args.selection))?;
    for node in listed.iter().filter(|node| node.kind == "model" || node.kind == "seed") {
        let batches = runner.show(&node.name, args.limit, &plan_options(&context)).await?;
        if listed.len() > 1 {
            printer.note(&node.node);
        }
        print_rows(&batches, None, printer)?;
    }
    Ok(Exit::Done)
}

/// Lists nodes.
pub(crate) fn ls(global: &GlobalArgs, args: SelectArgs, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let listed = runner(&context)?.ls(&selection(args))?;
    let mut rows = vec![["node", "path"].map(str::to_owned).to_vec()];
    rows.extend(listed.iter().map(|node| vec![node.node.clone(), node.path.clone()]));
    printer.result(&listed, &table(&rows));
    Ok(Exit::Done)
}
