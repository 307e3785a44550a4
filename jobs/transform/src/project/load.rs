//! From a folder to a [`Project`].

mod data_tests;
mod strays;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};
use tidemill_project::Fault;

use super::configure;
use super::docs;
use super::extras::Extras;
use super::files::{files, inner, place_of_config, read_text, stem};
use super::model::{EnvVars, Model, NodeId, Project, RefCall, Seed, SourceTable, Target, Uses};
use super::packages;
use super::properties::{NodeProperties, Properties, TestDeclaration};
use super::resolve::{add_package_vars, read_macros, read_properties, resolve_text};
use super::scenarios;
use super::settings::{Kind, Settings};
use super::snapshots;
use super::unit_tests;
use super::yaml::{Entry, Node, Place, Reader};
use crate::error::{Error, Result, codes};
use crate::render::{Renderer, YamlValues};

/// What the caller knows that the project's files do not say.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Override the variables of `dbt_project.yml` (`--vars`).
    pub vars: Map<String, Json>,
    /// What `env_var` sees.
    pub env: BTreeMap<String, String>,
    /// The target.
    pub target: Target,
    /// Hold YAML's columns against the models' strictly; see [`Project::strict`].
    pub strict: bool,
}

/// Reads the dbt project in `models_dir`.
///
/// Reads files, nothing else: no lake, no broker. `ref` and `source` are collected and not followed; that they lead somewhere
/// is checked by [`crate::graph::Graph::build`].
///
/// # Errors
/// All faults of all files at once, each with its place; [`tidemill_project::ErrorKind::Configuration`].
pub fn load_project(models_dir: &Path, options: LoadOptions) -> Result<Project> {
    let mut reader = Reader { strict: options.strict, ..Reader::default() };
    if !models_dir.is_dir() {
        reader.fault(&Place::start_of(models_dir), codes::READ, "the folder of the models project is not there");
        return Err(Error::from_faults(reader.faults));
    }
    let mut settings = match Settings::read(&mut reader, models_dir) {
        Ok(settings) => settings,
        Err(fault) => return Err(Error::from_faults(vec![fault])),
    };
    let mut vars = settings.vars.clone();
    vars.extend(options.vars);
    let env = EnvVars(options.env);
    let mut packages = packages::find(&mut reader, models_dir, &settings);
    for (_, package) in &packages {
        add_package_vars(&mut vars, package);
    }
    let values = YamlValues::new(&vars, &env, &options.target);
    settings.change_texts(&mut |place, text| resolve_text(&mut reader, &values, place, text));
    for (_, package) in &mut packages {
        package.change_texts(&mut |place, text| resolve_text(&mut reader, &values, place, text));
    }

    let mut docs = BTreeMap::new();
    for package in packages.iter().map(|(_, package)| package).chain([&settings]) {
        docs.extend(docs::read(&mut reader, package));
    }
    let mut project = Project {
        name: settings.name.clone(),
        root: models_dir.to_path_buf(),
        vars,
        env,
        target: options.target,
        models: IndexMap::new(),
        seeds: IndexMap::new(),
        sources: IndexMap::new(),
        generic_tests: Vec::new(),
        singular_tests: Vec::new(),
        unit_tests: Vec::new(),
        scenario_tests: Vec::new(),
        macros: Vec::new(),
        packages: packages.iter().map(|(_, package)| package.name.clone()).collect(),
        latest_versions: BTreeMap::new(),
        dispatch: settings.dispatch.clone(),
        docs,
        on_run_start: settings.on_run_start.clone(),
        on_run_end: settings.on_run_end.clone(),
        strict: options.strict,
        notes: Vec::new(),
        disabled: Vec::new(),
        extras: Extras::default(),
    };
    if models_dir.join("profiles.yml").is_file() {
        reader.note(
            &Place::start_of(&models_dir.join("profiles.yml")),
            "profiles are not used: the lake and the target say where tables go",
        );
    }
    for package in packages.iter().map(|(_, package)| package).chain([&settings]) {
        project.macros.extend(read_macros(&mut reader, package));
    }
    let renderer = match Renderer::new(&project) {
        Ok(renderer) => renderer,
        Err(error) => {
            reader.faults.extend(error.into_faults());
            return Err(Error::from_faults(reader.faults));
        }
    };
    let mut loader = Loader {
        reader,
        root: Arc::new(settings.clone()),
        settings,
        package: String::new(),
        values,
        renderer,
        project,
    };
    for (_, package) in packages {
        loader.load(package);
    }
    let root = Settings::clone(&loader.root);
    loader.load(root);
    loader.report_repeated_tests();
    loader.name_relations();
    let Loader { reader, mut project, .. } = loader;
    if !reader.faults.is_empty() {
        return Err(Error::from_faults(sorted(reader.faults)));
    }
    project.notes = sorted(reader.notes);
    project.disabled.sort();
    Ok(project)
}

/// By file and line, so that the list reads like the files.
fn sorted(mut faults: Vec<Fault>) -> Vec<Fault> {
    faults.sort_by(|left, right| left.location.cmp(&right.location));
    faults.dedup();
    faults
}

struct Loader {
    reader: Reader,
    /// Those of the project itself, which say something about packages, too.
    root: Arc<Settings>,
    /// Those of the package that is read now.
    settings: Settings,
    /// Its name.
    package: String,
    values: YamlValues,
    renderer: Renderer,
    project: Project,
}

impl Loader {
    fn load(&mut self, settings: Settings) {
        self.package = settings.name.clone();
        let mut properties = read_properties(&mut self.reader, &settings, &self.values);
        if self.package == self.root.name {
            self.project.extras = std::mem::take(&mut properties.extras);
            let root = self.project.root.clone();
            self.project.extras.selectors = super::selectors::read(&mut self.reader, &root);
        }
        self.settings = settings;
        let model_files: Vec<(PathBuf, PathBuf)> = self
            .settings
            .model_paths
            .clone()
            .into_iter()
            .flat_map(|dir| {
                files(&mut self.reader, &dir, &["sql", "py"]).into_iter().map(move |path| (dir.clone(), path))
            })
            .collect();
        properties.name_latest_versions(&model_files.iter().map(|(_, path)| stem(path)).collect());
        let versions = std::mem::take(&mut properties.versions);
        self.project.latest_versions.extend(versions);
        for dir in self.settings.seed_paths.clone() {
            for path in files(&mut self.reader, &dir, &["csv"]) {
                self.load_seed(&dir, path, &mut properties);
            }
        }
        for (dir, path) in model_files {
            if path.extension().is_some_and(|ending| ending == "py") {
                self.reader.fault_hint(
                    &Place::start_of(&path),
                    codes::UNKNOWN_VALUE,
                    "models in Python cannot be run",
                    "write it in SQL, or hide the file in .tidemillignore",
                );
                continue;
            }
            self.load_model(&dir, path, &mut properties);
        }
        for dir in self.settings.snapshot_paths.clone() {
            for path in files(&mut self.reader, &dir, &["sql"]) {
                self.load_snapshots(&dir, &path, &mut properties);
            }
        }
        self.load_yaml_snapshots(&mut properties);
        self.project.disabled.extend(properties.disabled_sources.iter().map(ToString::to_string));
        for (name, (source, tests)) in std::mem::take(&mut properties.sources) {
            self.load_source(name, source, tests);
        }
        for dir in self.settings.test_paths.clone() {
            for path in files(&mut self.reader, &dir, &["sql"]) {
                self.load_singular(&dir, path, &properties);
            }
        }
        self.move_misplaced(&mut properties);
        let fixtures: Vec<PathBuf> = self.settings.test_paths.iter().map(|dir| dir.join("fixtures")).collect();
        for node in std::mem::take(&mut properties.unit_tests) {
            let read = unit_tests::read_unit_tests(&mut self.reader, &self.project, &fixtures, &node);
            self.project.unit_tests.extend(read);
        }
        for node in std::mem::take(&mut properties.scenario_tests) {
            let read = scenarios::read_scenario(&mut self.reader, &self.project, &node);
            self.project.scenario_tests.extend(read);
        }
        self.report_orphans(&properties.models, "model");
        self.report_orphans(&properties.seeds, "seed");
        self.report_orphans(&properties.snapshots, "snapshot");
    }

    /// What folders say about a file: the package's own project file under the project's.
    fn folder_config(&self, kind: Kind, inner: &[&str]) -> Vec<Entry> {
        let mut merged = self.settings.folder_config(kind, &self.package, inner);
        if self.package != self.root.name {
            configure::merge(&mut merged, &self.root.folder_config(kind, &self.package, inner));
        }
        merged
    }

    fn read_text(&mut self, path: &Path) -> Option<String> {
        read_text(&mut self.reader, path)
    }

    /// Whether a name is free; models and seeds share one name space.
    fn is_free(&mut self, name: &str, path: &Path) -> bool {
        let taken = self.project.models.get(name).map(|model| model.path.clone());
        let Some(other) = taken.or_else(|| self.project.seeds.get(name).map(|seed| seed.path.clone())) else {
            return true;
        };
        self.reader.fault(
            &Place::start_of(path),
            codes::REPEATED,
            format!("two files give one name, name=`{name}`, other=`{}`", other.display()),
        );
        false
    }

    fn load_model(&mut self, dir: &Path, path: PathBuf, properties: &mut Properties) {
        let Some(raw_sql) = self.read_text(&path) else { return };
        let name = stem(&path);
        let described = properties.models.shift_remove(&name);
        let folders = self.folder_config(Kind::Models, &inner(dir, &path));
        self.load_query(name, path, raw_sql, folders, described);
    }

    /// A model or a snapshot.
    fn load_query(
        &mut self,
        name: String,
        path: PathBuf,
        raw_sql: String,
        mut merged: Vec<Entry>,
        described: Option<NodeProperties>,
    ) {
        let parsed = self.renderer.parse(&self.package, &name, &path, &raw_sql);
        let mut place = Place::start_of(&path);
        if let Some(described) = &described {
            configure::merge(&mut merged, &described.config);
            place = described.place.clone();
        }
        let uses = match parsed {
            Ok(uses) => uses,
            Err(error) => {
                self.reader.faults.extend(error.into_faults());
                Uses::default()
            }
        };
        let call_place = place_of_config(&path, &raw_sql);
        let own = Node::from_json(&call_place, &Json::Object(uses.config.clone()));
        configure::merge(&mut merged, own.entries());
        let config = configure::model_config(&mut self.reader, merged, &place);
        if !config.enabled {
            self.project.disabled.push(name);
            return;
        }
        if !self.is_free(&name, &path) {
            return;
        }
        let described = described.unwrap_or_else(|| NodeProperties::none(place.clone()));
        let described = self.filled(described);
        self.add_tests(&NodeId::Model(name.clone()), described.tests);
        let model = Model {
            name: name.clone(),
            package: self.package.clone(),
            path,
            raw_sql,
            config,
            uses,
            columns: described.columns,
            constraints: described.constraints,
            description: described.description,
            location: place.location(),
        };
        self.project.models.insert(name, model);
    }

    /// Descriptions with the docs blocks that they name.
    fn filled(&mut self, mut described: NodeProperties) -> NodeProperties {
        let docs = &self.project.docs;
        let texts =
            described.columns.values_mut().map(|column| &mut column.description).chain([&mut described.description]);
        for text in texts {
            match docs::fill(text, docs) {
                Ok(filled) => *text = filled,
                Err(name) => {
                    let near = tidemill_project::error::nearest(&name, docs.keys().map(String::as_str));
                    let hint = near.map_or_else(
                        || "write the block in a Markdown file: {% docs … %} … {% enddocs %}".to_owned(),
                        |near| format!("did you mean `{near}`?"),
                    );
                    let message = format!("no docs block of that name, doc=`{name}`");
                    self.reader.fault_hint(&described.place, codes::YAML_EXPRESSION, message, hint);
                }
            }
        }
        described
    }

    fn load_snapshots(&mut self, dir: &Path, path: &Path, properties: &mut Properties) {
        let Some(text) = self.read_text(path) else { return };
        for block in snapshots::blocks(&text) {
            let mut parts = inner(dir, path);
            parts.push(&block.name);
            let mut merged = self.folder_config(Kind::Snapshots, &parts);
            configure::merge(&mut merged, &snapshots::materialized(&Place::start_of(path)));
            let described = properties.snapshots.shift_remove(&block.name);
            self.load_query(block.name.clone(), path.to_path_buf(), block.sql, merged, described);
        }
    }

    /// Snapshots that YAML alone declares: the relation to keep, and its config.
    fn load_yaml_snapshots(&mut self, properties: &mut Properties) {
        let (with_relation, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut properties.snapshots).into_iter().partition(|(_, found)| found.relation.is_some());
        properties.snapshots = rest.into_iter().collect();
        for (name, described) in with_relation {
            let relation = described.relation.clone().unwrap_or_default();
            let relation = relation.trim().trim_start_matches("{{").trim_end_matches("}}").trim().to_owned();
            let path = described.place.file.to_path_buf();
            let mut merged = self.folder_config(Kind::Snapshots, &[&name]);
            configure::merge(&mut merged, &snapshots::materialized(&described.place));
            let sql = format!("select * from {{{{ {relation} }}}}");
            self.load_query(name, path, sql, merged, Some(described));
        }
    }

    /// Schemas and names of tables by the project's own `generate_schema_name` and `generate_alias_name`, when it has them.
    fn name_relations(&mut self) {
        let own =
            |name: &str| self.project.macros.iter().any(|file| file.package == self.project.name && file.defines(name));
        let (schemas, aliases) = (own("generate_schema_name"), own("generate_alias_name"));
        if !schemas && !aliases {
            return;
        }
        let renderer = match Renderer::new(&self.project) {
            Ok(renderer) => renderer,
            Err(error) => return self.reader.faults.extend(error.into_faults()),
        };
        for model in self.project.models.values_mut() {
            let kind = if model.config.snapshot.is_some() { "snapshot" } else { "model" };
            let node = Renderer::naming_node(kind, &model.package, &model.name, &model.config.raw, &model.config.tags);
            let named = |name, custom: Option<&String>| renderer.naming(name, custom.map(String::as_str), &node);
            if schemas && !(kind == "snapshot" && model.config.raw.contains_key("target_schema")) {
                match named("generate_schema_name", model.config.schema.as_ref()) {
                    Ok(schema) => model.config.schema = Some(schema),
                    Err(error) => self.reader.faults.extend(error.into_faults()),
                }
            }
            if aliases {
                match named("generate_alias_name", model.config.alias.as_ref()) {
                    Ok(alias) => model.config.alias = Some(alias),
                    Err(error) => self.reader.faults.extend(error.into_faults()),
                }
            }
        }
        for seed in self.project.seeds.values_mut() {
            let node = Renderer::naming_node("seed", &self.project.name, &seed.name, &Map::new(), &seed.tags);
            if schemas {
                match renderer.naming("generate_schema_name", seed.schema.as_deref(), &node) {
                    Ok(schema) => seed.schema = Some(schema),
                    Err(error) => self.reader.faults.extend(error.into_faults()),
                }
            }
        }
    }

    fn load_seed(&mut self, dir: &Path, path: PathBuf, properties: &mut Properties) {
        let name = stem(&path);
        let described = properties.seeds.shift_remove(&name);
        let mut merged = self.folder_config(Kind::Seeds, &inner(dir, &path));
        let mut place = Place::start_of(&path);
        if let Some(described) = &described {
            configure::merge(&mut merged, &described.config);
            place = described.place.clone();
        }
        let config = configure::model_config(&mut self.reader, without_materialization(merged), &place);
        if !config.enabled {
            self.project.disabled.push(name);
            return;
        }
        if !self.is_free(&name, &path) {
            return;
        }
        let column_types = match config.raw.get("column_types") {
            Some(Json::Object(types)) => {
                types.iter().filter_map(|(column, kind)| Some((column.clone(), kind.as_str()?.to_owned()))).collect()
            }
            _ => IndexMap::new(),
        };
        let delimiter = config.raw.get("delimiter").and_then(Json::as_str).and_then(|text| text.chars().next());
        let described = described.unwrap_or_else(|| NodeProperties::none(place.clone()));
        let NodeProperties { description, columns, tests, .. } = self.filled(described);
        self.add_tests(&NodeId::Seed(name.clone()), tests);
        let seed = Seed {
            text: None,
            name: name.clone(),
            path,
            column_types,
            columns,
            delimiter: delimiter.unwrap_or(','),
            quote_columns: config.raw.get("quote_columns").and_then(Json::as_bool).unwrap_or(false),
            schema: config.schema,
            alias: config.alias,
            tags: config.tags,
            event_time: config.event_time,
            description,
            location: place.location(),
        };
        self.project.seeds.insert(name, seed);
    }

    fn load_source(&mut self, name: tidemill_project::SourceName, source: SourceTable, tests: Vec<TestDeclaration>) {
        self.add_tests(&NodeId::Source(name.clone()), tests);
        self.project.sources.insert(name, source);
    }
}

/// Seeds share folder configs' grammar with models, but are no views.
fn without_materialization(merged: Vec<Entry>) -> Vec<Entry> {
    merged.into_iter().filter(|entry| !matches!(entry.key.as_str(), "materialized" | "incremental_strategy")).collect()
}

impl Project {
    /// The model, snapshot or seed of a `ref`; `None` when there is none of that name, or it is another package's.
    #[must_use]
    pub fn find_ref(&self, call: &RefCall) -> Option<NodeId> {
        let versioned = call.version.as_ref().map(|version| format!("{}.v{version}", call.name));
        let wanted = versioned.as_deref().unwrap_or(&call.name);
        let name = self.latest_versions.get(wanted).map_or(wanted, String::as_str);
        if let Some(model) = self.models.get(name) {
            let of_package = call.package.as_ref().is_none_or(|package| *package == model.package);
            return of_package.then(|| NodeId::Model(name.to_owned()));
        }
        let known = |package: &String| *package == self.name || self.packages.contains(package);
        let is_seed = self.seeds.contains_key(&call.name) && call.package.as_ref().is_none_or(known);
        is_seed.then(|| NodeId::Seed(call.name.clone()))
    }
}
