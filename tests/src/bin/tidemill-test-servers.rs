//! Starts the servers that one test run shares: nextest's setup script, see `.config/nextest.toml`.
//!
//! Called without arguments it starts a second copy of itself in the background, waits until the servers answer, writes
//! their addresses to the file `NEXTEST_ENV` and ends. The copy (`serve`) stops the servers when the test runner is gone, so
//! nobody has to clean up.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use nix::unistd::{Pid, getppid};
use tidemill_tests::shared;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the setup script's output is shown by nextest")]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => {
            let environment = std::env::var_os("NEXTEST_ENV").context("NEXTEST_ENV is not set: run by nextest only")?;
            std::fs::write(environment, shared::start_for(getppid(), &std::env::current_exe()?)?)?;
            Ok(())
        }
        [verb, watched, addresses] if verb == "serve" => {
            shared::serve(Pid::from_raw(watched.parse()?), Path::new(addresses))
        }
        _ => bail!("usage: tidemill-test-servers [serve PID FILE]"),
    }
}
