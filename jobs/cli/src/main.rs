//! `tidemill`: keeps a data warehouse fresh from Kafka, each event counted once.
//!
//! The binary decides nothing about data: arguments become settings, settings go to one function of a room, and what comes
//! back is printed. Data goes to stdout, everything else to stderr.

mod args;
mod commands;
mod exit;
mod logging;
mod printer;
mod report;
mod settings;
mod signals;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::args::Cli;
use crate::printer::Printer;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    logging::init(cli.global.log_format, &settings::environment());
    let printer = Printer::new(cli.global.format, cli.global.log_format).of(name_of(&matches));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(8 << 20).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            printer.error(&anyhow::Error::new(error).context("failed to start the runtime"));
            return exit::Exit::Failed.into();
        }
    };
    let outcome = runtime.block_on(commands::run(cli, printer));
    // librdkafka's threads may be inside a callback; there is nothing left to wait for.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            printer.error(&error);
            report::exit_of(&error).into()
        }
    }
}

/// The command as it was typed: `status`, `quarantine list`. There is one per process, so it may live as long.
fn name_of(matches: &ArgMatches) -> &'static str {
    let mut names = Vec::new();
    let mut at = matches.subcommand();
    while let Some((name, inner)) = at {
        names.push(name);
        at = inner.subcommand();
    }
    Box::leak(names.join(" ").into_boxed_str())
}
