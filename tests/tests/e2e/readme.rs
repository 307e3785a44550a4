//! Every command of README.md, run as it stands there.
//!
//! Commands are the lines of its `sh` blocks, the lines of its `text` blocks that begin with `tidemill`, and the code spans in
//! its prose that do. One that is new is run like the others; one that needs something that is not here fails.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tidemill_tests::kafka::Broker;
use tidemill_tests::process::Process;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::tidemill::{binary, exit};
use tidemill_tests::topics::{Record, TestProducer, Topics};
use tidemill_tests::wait::{self, PATIENCE};
use tidemill_tests::{installed, tidemill::Tidemill};

const DEMO: &str = "cargo run --release -- demo";
const TESTS: &str = "./tests/run";
const DEMO_FOLDER: &str = "./.tidemill/demo";

struct Readme {
    text: String,
}

impl Readme {
    fn read() -> Result<Self> {
        Ok(Self { text: fs::read_to_string(installed::repository().join("README.md"))? })
    }

    /// Texts of the fenced blocks of a language.
    fn blocks(&self, language: &str) -> Vec<&str> {
        let fence = format!("```{language}\n");
        self.text.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
    }

    /// Prose without its blocks.
    fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    fn commands(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let uncommented = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_owned();
        for line in self.blocks("sh").iter().flat_map(|block| block.lines()) {
            found.insert(uncommented(line));
        }
        for line in self.blocks("text").iter().flat_map(|block| block.lines()) {
            if line.trim().starts_with("tidemill ") {
                found.insert(line.trim().to_owned());
            }
        }
        for span in self.prose().split('`').skip(1).step_by(2) {
            if span.starts_with("tidemill ") {
                found.insert(span.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
        found.remove("");
        found
    }
}

/// Runs a command line as a shell does, with the binary on the PATH.
fn shell(line: &str, folder: &Path) -> Result<Command> {
    // Under its own name, wherever it was built.
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let tools = FOLDER.get_or_init(|| TempDir::with_prefix("tidemill-bin-").expect("a temporary folder"));
    let name = tools.path().join("tidemill");
    if !name.exists() {
        std::os::unix::fs::symlink(binary()?, &name)?;
    }
    #[expect(clippy::disallowed_methods, reason = "the shell needs the tools that the test has")]
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("exec {line}")])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", tools.path().display()))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    Ok(command)
}

fn succeed(line: &str, folder: &Path) -> Result<String> {
    let output = shell(line, folder)?.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code();
    ensure!(code == Some(exit::DONE), "`{line}` ended with {code:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    Ok(text(&output.stdout))
}

/// The README's own source in a project, with what it leaves to the reader: a broker, a model, an archive.
struct Shop {
    project: Project,
    producer: TestProducer,
    topics: Topics,
    _broker: Broker,
}

impl Shop {
    fn open(readme: &Readme) -> Result<Self> {
        let sources = readme.blocks("yaml").into_iter().find(|block| block.starts_with("sources:"));
        let sources = sources.context("the README shows a source")?;
        let broker = Broker::start()?;
        let topics = Topics::connect(&broker.bootstrap())?;
        topics.create("orders", 2, &[])?;
        let model = "models:\n  - name: orders\n    config:\n      materialized: table\n      meta:\n        tidemill:\n          publish:\n            \
                     - {to: snowflake, table: SHOP_DB.PROCESSED_DATA.ORDERS, unique_key: [order_id]}\n    columns:\n      \
                     - {name: order_id, data_tests: [unique]}\n";
        let project = ProjectBuilder::empty()
            .kafka(&broker.bootstrap(), "shop")
            .file("dbt_project.yml", "name: shop\nversion: \"1.0.0\"\nconfig-version: 2\n")
            .file("models/_shop__sources.yml", &format!("{sources}\n"))
            .file("models/orders.sql", "select order_id, amount from {{ source('shop', 'orders') }}\n")
            .file("models/orders.yml", model)
            .build()?;
        let archive = project.folder().join("archive");
        fs::create_dir(&archive)?;
        let lines = order(1_000) + &order(1_001);
        fs::write(archive.join("old.jsonl.zst"), zstd::encode_all(lines.as_bytes(), 0)?)?;
        Ok(Self { project, producer: topics.producer()?, topics, _broker: broker })
    }

    fn tidemill(&self) -> Tidemill {
        self.project.tidemill()
    }

    fn num_rows(&self) -> Result<i64> {
        self.tidemill().number("select count(*) from shop.orders")
    }

    fn send(&self, number: u32) -> Result<()> {
        self.producer.deliver("orders", [&Record::value(order(number))])
    }

    /// A command that goes on until it is stopped: it must land an order that is sent meanwhile, and end well.
    fn run_until_stopped(&self, line: &str, number: u32) -> Result<()> {
        let before = self.num_rows()?;
        let log = self.project.folder().join("readme.log");
        let mut process = Process::start(line, &mut shell(line, self.project.folder())?, &log)?;
        self.send(number)?;
        let landed = wait::until("the order to land", PATIENCE, || {
            ensure!(process.try_wait()?.is_none(), "`{line}` ended by itself: {}", process.output()?);
            Ok((self.num_rows()? > before).then_some(()))
        });
        landed.with_context(|| process.output().unwrap_or_default())?;
        let status = process.terminate(Duration::from_secs(20))?;
        ensure!(status.code() == Some(exit::DONE), "`{line}` ended with {status}: {}", process.output()?);
        Ok(())
    }
}

fn order(number: u32) -> String {
    format!(
        "{{\"order_id\": \"{number}\", \"amount\": 9.99, \"ordered_at\": {}}}\n",
        1_741_392_000_000_u64 + u64::from(number)
    )
}

#[test]
fn every_command_of_the_readme_works_as_it_stands_there() -> Result<()> {
    let readme = Readme::read()?;
    let mut commands = readme.commands();
    for main in [DEMO, TESTS] {
        ensure!(commands.remove(main), "the README does not name its first command `{main}`: {commands:?}");
    }
    ensure!(commands.len() >= 8, "only {commands:?} were found");

    // What the demo leaves behind, where the README looks for it. Fewer events than by default, for time.
    let demo = TempDir::with_prefix("tidemill-readme-")?;
    let shown = succeed("tidemill demo --events 4000", demo.path())?;
    let (of_demo, others): (Vec<_>, Vec<_>) = commands.into_iter().partition(|line| line.contains(DEMO_FOLDER));
    ensure!(!of_demo.is_empty(), "the README shows nothing to try after the demo");
    for line in of_demo {
        ensure!(shown.contains(&line), "the demo does not say `{line}`:\n{shown}");
        ensure!(!succeed(&line, demo.path())?.is_empty(), "`{line}` prints nothing");
    }

    let shop = Shop::open(&readme)?;
    let folder = shop.project.folder();
    for number in 0..100 {
        shop.send(number)?;
    }
    // In the order of the README, so that what needs rows comes after what brings them: ingest, build, publish, the rest.
    let rank = |line: &String| {
        let verb = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
        ["ingest", "build", "publish"].iter().position(|first| *first == verb).unwrap_or(9)
    };
    let mut others = others;
    others.sort_by_key(rank);
    let mut next = 2_000;
    for line in others {
        if !line.starts_with("tidemill ") {
            bail!("nobody knows how to test `{line}`: teach this test");
        }
        if line.contains("--every") || line.contains("--follow") {
            next += 1;
            shop.run_until_stopped(&line, next)?;
        } else {
            let line = line.replace("DIR", "./mine");
            succeed(&line, folder).with_context(|| format!("`{line}`"))?;
        }
    }
    let sent = shop.topics.watermarks("orders", 0)?.1 + shop.topics.watermarks("orders", 1)?.1;
    ensure!(shop.num_rows()? == sent + 2, "{} rows of {sent} orders and an archive of two", shop.num_rows()?);
    Ok(())
}

#[test]
fn ci_runs_exactly_the_test_command_of_the_readme() -> Result<()> {
    let repository = installed::repository();
    let script = fs::metadata(repository.join("tests/run"))?;
    ensure!(script.permissions().mode() & 0o111 == 0o111, "tests/run is not executable");
    let ci = fs::read_to_string(repository.join(".ci/run"))?;
    let statements: Vec<&str> =
        ci.lines().filter(|line| !line.starts_with('#') && !line.starts_with("set ") && !line.is_empty()).collect();
    let (last, before) = statements.split_last().context(".ci/run does something")?;
    ensure!(*last == "exec tests/run", ".ci/run ends with `{last}`");
    let is_setting = |line: &&str| line.starts_with("export ") || line.starts_with("cd ");
    ensure!(before.iter().all(is_setting), ".ci/run does more than to run the tests: {before:?}");
    Ok(())
}
