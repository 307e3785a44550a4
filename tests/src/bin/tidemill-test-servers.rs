//! Starts the servers that one test run shares.
//!
//! nextest's setup script, see `.config/nextest.toml`. Called without arguments it starts a second copy of itself in the
//! background, waits until the servers answer, writes their addresses to the file `NEXTEST_ENV` and ends. The copy stops the
//! servers when the test runner is gone, however that ended, so nobody has to clean up.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::kill;
use nix::unistd::{Pid, getppid};
use tidemill_tests::kafka::Broker;
use tidemill_tests::s3::S3;
use tidemill_tests::snowflake::Snowflake;
use tidemill_tests::{shared, wait};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => start(),
        ["serve", runner, addresses] => serve(runner, Path::new(addresses)),
        _ => Err(anyhow::anyhow!("usage: tidemill-test-servers [serve PID FILE]")),
    };
    match result {
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

fn start() -> Result<()> {
    let environment = std::env::var_os("NEXTEST_ENV").context("NEXTEST_ENV is not set: run by nextest only")?;
    let folder = tempfile::Builder::new().prefix("tidemill-servers-").disable_cleanup(true).tempdir()?;
    let addresses = folder.path().join("addresses");
    let log = std::fs::File::create(folder.path().join("log"))?;
    let mut copy = Command::new(std::env::current_exe()?)
        .args(["serve", &getppid().to_string()])
        .arg(&addresses)
        // Its own group: nextest ends the group of a setup script together with the script.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    wait::until("the servers", Duration::from_secs(180), || {
        if let Some(status) = copy.try_wait()? {
            let said = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            bail!("the servers ended at once: {status}\n{said}");
        }
        Ok(addresses.exists().then_some(()))
    })?;
    std::fs::copy(&addresses, environment)?;
    Ok(())
}

fn serve(runner: &str, addresses: &Path) -> Result<()> {
    let runner = Pid::from_raw(runner.parse()?);
    let kafka = thread::spawn(Broker::start);
    let s3 = thread::spawn(S3::start);
    let snowflake = Snowflake::start()?;
    let kafka = kafka.join().expect("starting a broker does not panic")?;
    let s3 = s3.join().expect("starting an S3 server does not panic")?;
    let text = format!(
        "{}={}\n{}={}\n{}={}\n",
        shared::KAFKA_VARIABLE,
        kafka.bootstrap(),
        shared::S3_VARIABLE,
        s3.endpoint(),
        shared::SNOWFLAKE_VARIABLE,
        snowflake.address().port,
    );
    // Written aside and renamed: whoever sees the file sees all of it.
    let aside: PathBuf = addresses.with_extension("new");
    std::fs::write(&aside, text)?;
    std::fs::rename(&aside, addresses)?;
    while kill(runner, None).is_ok() {
        wait::pause(Duration::from_millis(200));
    }
    drop((kafka, s3, snowflake));
    if let Some(folder) = addresses.parent() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}
