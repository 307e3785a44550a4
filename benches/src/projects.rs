//! (e) Large projects: parsing, compiling, and a build that has nothing to do, beside dbt-core on the same files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tidemill_tests::{installed, tidemill};

use crate::ProjectsArgs;
use crate::child::{self, Usage};
use crate::results::Section;
use crate::stats::median;

/// Models of one folder; each reads two of the folder before.
const LAYER: u32 = 50;

/// Measures both programs in turn, task by task.
pub(crate) fn measure(args: &ProjectsArgs) -> Result<Section> {
    let large = Bench::new(args.models)?;
    let small = Bench::new(args.built)?;
    small.run_both(&["build"])?;
    let tasks: [(&Bench, &str, &[&str], &[&str]); 3] = [
        (&large, "parse", &["parse"], &["--no-partial-parse", "parse"]),
        (&large, "compile", &["compile"], &["--no-partial-parse", "compile"]),
        (&small, "build, nothing new", &["build"], &["build"]),
    ];
    let mut rows = Vec::new();
    for (bench, name, ours, theirs) in tasks {
        let (mut own, mut dbt) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            own.push(bench.tidemill(ours)?);
            dbt.push(bench.dbt(theirs)?);
            eprintln!("task={name} tidemill={:?} dbt={:?}", own.last(), dbt.last());
        }
        rows.push(row(name, bench.models, "dbt-core", &dbt, &dbt));
        rows.push(row(name, bench.models, "tidemill", &own, &dbt));
    }
    Ok(Section {
        id: "e",
        title: "Large projects",
        command: format!("benches/run e --models {} --built {} --rounds {}", args.models, args.built, args.rounds),
        data: format!(
            "Generated projects: one seed of 100 rows, models in layers of {LAYER}, each over two models of the layer below, one\n\
             test a model, properties in one YAML file. dbt-core 1.11 with dbt-duckdb, two threads, without its cache of\n\
             parsed files, as Tidemill keeps none. Whole processes, start included, in turn; medians of {} runs. *build,\n\
             nothing new* repeats a build: dbt has no notion of it and makes every table again; Tidemill finds every model and\n\
             test unchanged.",
            args.rounds
        ),
        heading: vec!["task", "models", "program", "time", "times faster", "processor time", "peak memory"],
        rows,
    })
}

/// A generated project and where its tables go.
struct Bench {
    folder: TempDir,
    models: u32,
}

impl Bench {
    fn new(models: u32) -> Result<Self> {
        let folder = TempDir::with_prefix("tidemill-project-")?;
        write_project(folder.path(), models)?;
        Ok(Self { folder, models })
    }

    fn tidemill(&self, arguments: &[&str]) -> Result<Usage> {
        let mut command = Command::new(tidemill::binary()?);
        command.arg("--project-dir").arg(self.folder.path()).arg("--lake").arg(self.folder.path().join("lake"));
        Ok(child::run(command_with(command, arguments))?.1)
    }

    fn dbt(&self, arguments: &[&str]) -> Result<Usage> {
        let mut command = Command::new(installed::path_of("dbt")?.join("bin/dbt"));
        command
            .args(arguments)
            .arg("--project-dir")
            .arg(self.folder.path())
            .arg("--profiles-dir")
            .arg(self.folder.path())
            .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "0");
        Ok(child::run(command)?.1)
    }

    fn run_both(&self, arguments: &[&str]) -> Result<()> {
        self.tidemill(arguments)?;
        self.dbt(arguments)?;
        Ok(())
    }
}

fn command_with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

/// Writes a project of so many models that both programs take.
fn write_project(folder: &Path, models: u32) -> Result<()> {
    ensure!(models > 0, "a project of no models shows nothing");
    let write = |path: &str, text: &str| -> Result<()> {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    };
    write(
        "dbt_project.yml",
        "name: wide\nversion: '1.0.0'\nprofile: wide\nmodel-paths: [models]\nseed-paths: [seeds]\n\
         models: {wide: {+materialized: table}}\n",
    )?;
    let database = folder.join("dbt.duckdb");
    write(
        "profiles.yml",
        &format!(
            "wide: {{target: dev, outputs: {{dev: {{type: duckdb, path: {}, threads: 2}}}}}}\n",
            database.display()
        ),
    )?;
    let seed = (0..100).fold("id,amount\n".to_owned(), |mut text, id| {
        let _ = writeln!(text, "{id},{}", id * 3);
        text
    });
    write("seeds/base.csv", &seed)?;
    let mut properties = "version: 2\nmodels:\n".to_owned();
    for number in 0..models {
        let layer = number / LAYER;
        write(&format!("models/layer_{layer:03}/model_{number:05}.sql"), &model(number))?;
        let _ = write!(
            properties,
            "  - name: model_{number:05}\n    description: Model {number}.\n    columns:\n      - name: id\n        \
             description: Whose amount it is.\n        data_tests: [not_null]\n      - name: amount\n        \
             description: What it adds up to.\n"
        );
    }
    write("models/models.yml", &properties)
}

fn model(number: u32) -> String {
    let (layer, place) = (number / LAYER, number % LAYER);
    let from = if layer == 0 {
        "select id, amount from {{ ref('base') }}".to_owned()
    } else {
        let below = (layer - 1) * LAYER;
        let (one, other) = (below + place, below + (place * 7 + 3) % LAYER);
        format!(
            "select id, amount from {{{{ ref('model_{one:05}') }}}}\n    union all\n    \
             select id, amount from {{{{ ref('model_{other:05}') }}}}"
        )
    };
    format!(
        "{{{{ config(tags=['tag_{}']) }}}}\n\nwith rows_below as (\n    {from}\n)\n\nselect id, sum(amount) as amount\n\
         from rows_below\n{{% if var('least', 0) > 0 %}}\nwhere id > {{{{ var('least') }}}}\n{{% endif %}}\ngroup by id\n",
        number % 5
    )
}

fn row(task: &str, models: u32, program: &str, runs: &[Usage], peer: &[Usage]) -> Vec<String> {
    let wall = |runs: &[Usage]| median(runs.iter().map(|run| run.wall.as_secs_f64()).collect());
    let cpu = median(runs.iter().map(|run| run.cpu.as_secs_f64()).collect());
    let peak = runs.iter().map(|run| run.peak_bytes).max().unwrap_or_default();
    vec![
        task.to_owned(),
        models.to_string(),
        program.to_owned(),
        format!("{:.2} s", wall(runs)),
        format!("{:.1}", wall(peer) / wall(runs)),
        format!("{cpu:.2} s"),
        format!("{} MiB", peak >> 20),
    ]
}
