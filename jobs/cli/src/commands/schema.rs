//! `tidemill schema check`: contracts, schema files and the registry against each other, before a producer is released.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;
use tidemill_ingest::decode::{Misfit, RegisteredSchema, SchemaKind, check_schema};
use tidemill_ingest::registry::Registry;
use tidemill_project::contract::{Contract, Format};
use tidemill_transform::graph::Selection;
use tidemill_transform::run::Dependent;

use super::build::runner;
use super::context::Context;
use super::publish::publications;
use crate::args::{GlobalArgs, SchemaCheckArgs, SchemaCommand};
use crate::exit::Exit;
use crate::printer::{Printer, table};
use crate::report::UsageError;

/// Runs a command of `schema`.
pub(crate) async fn run(global: &GlobalArgs, command: SchemaCommand, printer: Printer) -> anyhow::Result<Exit> {
    match command {
        SchemaCommand::Check(args) => Box::pin(check(global, &args, printer)).await,
    }
}

/// One contract with the schema that is looked at.
struct Candidate {
    contract: Contract,
    path: PathBuf,
    schema: RegisteredSchema,
}

/// What was found about one schema file.
#[derive(Debug, Serialize)]
struct Checked {
    source: String,
    file: String,
    subjects: Vec<CheckedSubject>,
    /// Columns of the contract that records of the schema cannot fill.
    columns: Vec<BrokenColumn>,
    /// Models that stand on these columns.
    models: Vec<Dependent>,
    /// Where these models are published, with the columns there.
    targets: Vec<BrokenTarget>,
    ok: bool,
}

/// What the registry says of one subject.
#[derive(Debug, Serialize)]
struct CheckedSubject {
    subject: String,
    /// Version and id that it has now.
    version: Option<u64>,
    id: Option<u32>,
    compatible: bool,
    messages: Vec<String>,
    /// Id that the schema has got by `--register`.
    registered: Option<u32>,
}

#[derive(Debug, Serialize)]
struct BrokenColumn {
    column: String,
    problem: String,
}

#[derive(Debug, Serialize)]
struct BrokenTarget {
    target: String,
    model: String,
    columns: Vec<String>,
}

async fn check(global: &GlobalArgs, args: &SchemaCheckArgs, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let candidates = candidates(&context, args)?;
    if candidates.is_empty() {
        printer.result(&json!({ "ok": true, "schemas": [] }), "Nothing to check: no contract names a `schema`.\n");
        return Ok(Exit::Done);
    }
    let Some(settings) = &context.settings.registry else {
        let message = format!(
            "target `{}` has no schema registry; add `[target.{}.registry]` with its `url` to tidemill.toml",
            context.settings.target, context.settings.target
        );
        return Err(UsageError { message }.into());
    };
    let registry = Registry::new(settings)?;
    let mut checked = Vec::with_capacity(candidates.len());
    for candidate in &candidates {
        checked.push(check_one(&context, &registry, candidate).await?);
    }
    let ok = checked.iter().all(|checked| checked.ok);
    // All or nothing, as far as one can know beforehand: a release whose second schema breaks registers none.
    if ok && args.register {
        for (candidate, checked) in candidates.iter().zip(&mut checked) {
            for subject in &mut checked.subjects {
                subject.registered = Some(registry.register(&subject.subject, &candidate.schema).await?.0);
            }
        }
    }
    printer.result(&json!({ "ok": ok, "schemas": checked }), &text(&checked));
    Ok(if ok { Exit::Done } else { Exit::Rejected })
}

/// The contracts that the arguments name, each with the schema to look at: its own, or that of a file.
fn candidates(context: &Context, args: &SchemaCheckArgs) -> anyhow::Result<Vec<Candidate>> {
    let contracts = context.selected_contracts(&args.select)?;
    // A contract that is read as JSON today may have a schema all the same, and a registry before it is switched over.
    let contracts: Vec<Contract> = contracts.into_iter().filter(|contract| contract.schema.is_some()).collect();
    if args.files.is_empty() {
        let of = |contract: Contract| {
            let file = contract.schema.clone()?;
            Some(Candidate { schema: candidate_schema(&contract, file.text), path: file.path, contract })
        };
        return Ok(contracts.into_iter().filter_map(of).collect());
    }
    let mut candidates = Vec::with_capacity(args.files.len());
    for path in &args.files {
        let contract = contract_of(&contracts, path)?.clone();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read a schema, path=`{}`", path.display()))?;
        candidates.push(Candidate { schema: candidate_schema(&contract, text), path: path.clone(), contract });
    }
    Ok(candidates)
}

fn candidate_schema(contract: &Contract, text: String) -> RegisteredSchema {
    let kind = if contract.format == Format::JsonSchema { SchemaKind::Json } else { SchemaKind::Avro };
    RegisteredSchema { kind, text, references: Vec::new() }
}

/// The contract that a file is a new schema of: the one whose own schema has the file's name, or the only one.
fn contract_of<'c>(contracts: &'c [Contract], path: &Path) -> anyhow::Result<&'c Contract> {
    let has_its_name = |contract: &&Contract| {
        contract.schema.as_ref().is_some_and(|schema| schema.path.file_name() == path.file_name())
    };
    let mut named = contracts.iter().filter(has_its_name);
    match (named.next(), named.next(), contracts) {
        (Some(contract), None, _) | (None, None, [contract]) => Ok(contract),
        _ => {
            let message = format!(
                "it is not clear which contract {} is a schema of; name it with --select SOURCE.TABLE",
                path.display()
            );
            Err(UsageError { message }.into())
        }
    }
}

async fn check_one(context: &Context, registry: &Registry, candidate: &Candidate) -> anyhow::Result<Checked> {
    let Candidate { contract, path, schema } = candidate;
    let misfits = check_schema(contract, schema)
        .map_err(|problem| UsageError { message: format!("{} {problem}", path.display()) })?;
    let mut subjects = Vec::new();
    for subject in subjects_of(contract) {
        let latest = registry.latest(&subject).await?;
        let found = registry.compatibility(&subject, schema).await?;
        subjects.push(CheckedSubject {
            subject,
            version: latest.as_ref().map(|latest| latest.version),
            id: latest.map(|latest| latest.id.0),
            compatible: found.is_compatible,
            messages: found.messages,
            registered: None,
        });
    }
    let models = dependents(context, contract, &misfits).await?;
    let targets = targets(context, &models)?;
    let ok = misfits.is_empty() && subjects.iter().all(|subject| subject.compatible);
    let columns = misfits.into_iter().map(|Misfit { column, problem }| BrokenColumn { column, problem }).collect();
    Ok(Checked {
        source: contract.name.to_string(),
        file: path.display().to_string(),
        subjects,
        columns,
        models,
        targets,
        ok,
    })
}

/// The subjects of a contract's topics, by the usual rule (TopicNameStrategy). A pattern over topics has none.
fn subjects_of(contract: &Contract) -> Vec<String> {
    let topics = contract.topics.iter().map(|topic| topic.pattern.as_str());
    topics.filter(|pattern| !pattern.starts_with('^')).map(|topic| format!("{topic}-value")).collect()
}

async fn dependents(context: &Context, contract: &Contract, misfits: &[Misfit]) -> anyhow::Result<Vec<Dependent>> {
    if misfits.is_empty() {
        return Ok(Vec::new());
    }
    let mut sources = BTreeMap::new();
    for contract in context.contracts()?.contracts {
        sources.insert(contract.name.clone(), tidemill_ingest::raw_table_spec(&contract)?.schema);
    }
    let columns = misfits.iter().map(|misfit| misfit.column.clone()).collect();
    let columns = BTreeMap::from([(contract.name.clone(), columns)]);
    Ok(runner(context)?.dependents(&sources, &columns).await?)
}

/// Where the models are published, with the names that the columns have there.
fn targets(context: &Context, models: &[Dependent]) -> anyhow::Result<Vec<BrokenTarget>> {
    if models.is_empty() {
        return Ok(Vec::new());
    }
    let published = publications(&runner(context)?, &Selection::all())?;
    let mut targets = Vec::new();
    for publication in published {
        let Some(model) = models.iter().find(|model| model.model == publication.model_name) else { continue };
        let is_table = publication.target.table().is_some();
        let shown = |name: &str| if is_table { name.to_ascii_uppercase() } else { name.to_owned() };
        let columns: Vec<String> = match &publication.columns {
            Some(columns) => {
                columns.iter().filter(|(from, _)| model.columns.contains(from)).map(|(_, name)| shown(name)).collect()
            }
            None => model.columns.iter().map(|name| shown(name)).collect(),
        };
        if !columns.is_empty() || model.columns.is_empty() {
            targets.push(BrokenTarget { target: publication.target.to_string(), model: model.model.clone(), columns });
        }
    }
    Ok(targets)
}

fn text(checked: &[Checked]) -> String {
    let mut text = String::new();
    for one in checked {
        text.push_str(&format!("{}  {}  {}\n", if one.ok { "ok" } else { "BREAKS" }, one.source, one.file));
        let mut rows = Vec::new();
        for subject in &one.subjects {
            let now = match (subject.version, subject.id) {
                (Some(version), Some(id)) => format!("version {version}, id {id}"),
                _ => "nothing registered".to_owned(),
            };
            let verdict = if subject.compatible { "compatible" } else { "NOT COMPATIBLE" };
            let registered = subject.registered.map(|id| format!("registered, id {id}")).unwrap_or_default();
            rows.push(
                ["  subject", subject.subject.as_str(), now.as_str(), verdict, registered.as_str()]
                    .map(str::to_owned)
                    .to_vec(),
            );
            rows.extend(subject.messages.iter().map(|message| vec!["  registry".to_owned(), message.clone()]));
        }
        for broken in &one.columns {
            rows.push(["  column", broken.column.as_str(), broken.problem.as_str()].map(str::to_owned).to_vec());
        }
        for model in &one.models {
            let why = if model.rows { "which rows there are" } else { "" };
            rows.push(["  model", &model.model, &model.columns.join(", "), why].map(str::to_owned).to_vec());
        }
        for target in &one.targets {
            rows.push(["  target", &target.target, &target.columns.join(", ")].map(str::to_owned).to_vec());
        }
        text.push_str(&table(&rows));
    }
    text
}
