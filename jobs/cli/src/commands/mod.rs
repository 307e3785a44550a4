//! One file per verb: arguments -> settings -> one call into a room -> words.

mod build;
mod clean;
mod collect;
mod context;
mod cycle;
mod demo;

mod docs;
mod doctor;
mod freshness;
mod ingest;
mod init;
mod lint;
mod list;
mod maintain;
mod meter;
mod models;
mod progress;
mod publish;
mod quarantine;
mod query;
mod readers;
mod reconcile;
mod retry;
mod schema;
mod simulate;
mod status;
mod tell;
mod test;
mod workspace;

use tidemill_transform::run::Kinds;

use crate::args::{Cli, Command, DocsCommand, Format, SourceCommand};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::report::UsageError;

/// Runs the command that was typed.
pub(crate) async fn run(cli: Cli, printer: Printer) -> anyhow::Result<Exit> {
    let Cli { global, command } = cli;
    let rows = matches!(command, Command::Sql(_) | Command::Show(_));
    if matches!(global.format, Format::Csv | Format::Parquet) && !rows {
        let message = "--format csv and parquet are for rows: `tidemill sql`".to_owned();
        return Err(UsageError { message }.into());
    }
    match command {
        Command::Demo(args) => Box::pin(demo::run(&global, args, printer)).await,
        Command::Init(args) => init::run(&args, printer),
        Command::Doctor(args) => doctor::run(&global, args, printer).await,
        Command::Ingest(args) => Box::pin(ingest::run(&global, args, printer)).await,
        Command::Collect(args) => collect::run(&global, &args, printer).await,
        Command::Build(args) => Box::pin(build::run(&global, args, printer)).await,
        Command::RunModels(args) => Box::pin(build::run_kinds(&global, args, Kinds::MODELS, printer)).await,
        Command::Seed(args) => Box::pin(models::seed(&global, args, printer)).await,
        Command::Snapshot(args) => Box::pin(models::snapshot(&global, args, printer)).await,
        Command::Test(args) => Box::pin(test::run(&global, args, printer)).await,
        Command::Compile(args) => Box::pin(models::compile(&global, args, printer)).await,
        Command::Show(args) => Box::pin(models::show(&global, args, printer)).await,
        Command::Ls(args) => Box::pin(list::run(&global, &args, printer)).await,
        Command::Parse => models::parse(&global, printer),
        Command::Docs(DocsCommand::Generate(args)) => Box::pin(docs::generate(&global, args, printer)).await,
        Command::SourceFreshness(args) | Command::Source(SourceCommand::Freshness(args)) => {
            Box::pin(freshness::run(&global, args, printer)).await
        }
        Command::Retry(args) => Box::pin(retry::run(&global, args, printer)).await,
        Command::Lint(args) => lint::run(&global, &args, printer),
        Command::Clean(args) => clean::run(&global, &args, printer),
        Command::Publish(args) => Box::pin(publish::run(&global, args, printer)).await,
        Command::Run(args) => Box::pin(cycle::run(&global, args, printer)).await,
        Command::Reconcile(args) => Box::pin(reconcile::run(&global, args, printer)).await,
        Command::Status(args) => Box::pin(status::run(&global, args, printer)).await,
        Command::Quarantine(command) => Box::pin(quarantine::run(&global, command, printer)).await,
        Command::Schema(command) => schema::run(&global, command, printer).await,
        Command::Sql(args) => Box::pin(query::run(&global, args, printer)).await,
        Command::Simulate(command) => Box::pin(simulate::run(&global, command, printer)).await,
        Command::Maintain(args) => maintain::run(&global, args, printer).await,
    }
}
