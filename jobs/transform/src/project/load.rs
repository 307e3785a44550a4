//! From a folder to a [`Project`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};
use tidemill_project::{Fault, Location};

use super::configure;
use super::extras::Extras;
use super::files::{files, inner, place_of_config, read_text, stem};
use super::model::{
    EnvVars, GenericTest, MacroFile, Model, NodeId, Project, RefCall, Seed, SingularTest, SourceTable, Target, Uses,
};
use super::naming::test_name;
use super::properties::{NodeProperties, Properties, TestDeclaration};
use super::settings::{Kind, Settings};
use super::unit_tests;
use super::yaml::{Data, Entry, Node, Place, Reader};
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
}

/// Reads the dbt project in `models_dir`.
///
/// Reads files, nothing else: no lake, no broker. `ref` and `source` are collected and not followed; that they lead somewhere
/// is checked by [`crate::graph::Graph::build`].
///
/// # Errors
/// All faults of all files at once, each with its place; [`tidemill_project::ErrorKind::Configuration`].
pub fn load_project(models_dir: &Path, options: LoadOptions) -> Result<Project> {
    let mut reader = Reader::default();
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
    let values = YamlValues::new(&vars, &env, &options.target);
    settings.change_texts(&mut |place, text| resolve_text(&mut reader, &values, place, text));

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
        macros: Vec::new(),
        disabled: Vec::new(),
        extras: Extras::default(),
    };
    project.macros = read_macros(&mut reader, &settings);
    let renderer = match Renderer::new(&project) {
        Ok(renderer) => renderer,
        Err(error) => {
            reader.faults.extend(error.into_faults());
            return Err(Error::from_faults(reader.faults));
        }
    };
    let mut properties = read_properties(&mut reader, &settings, &values);
    project.extras = std::mem::take(&mut properties.extras);
    project.extras.selectors = super::selectors::read(&mut reader, models_dir);
    let mut loader = Loader { reader, settings, values, renderer, project };
    loader.load(properties);
    let Loader { reader, mut project, .. } = loader;
    if !reader.faults.is_empty() {
        return Err(Error::from_faults(sorted(reader.faults)));
    }
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
    settings: Settings,
    values: YamlValues,
    renderer: Renderer,
    project: Project,
}

impl Loader {
    fn load(&mut self, mut properties: Properties) {
        for dir in self.settings.seed_paths.clone() {
            for path in files(&mut self.reader, &dir, &["csv"]) {
                self.load_seed(&dir, path, &mut properties);
            }
        }
        for dir in self.settings.model_paths.clone() {
            for path in files(&mut self.reader, &dir, &["sql"]) {
                self.load_model(&dir, path, &mut properties);
            }
        }
        for (name, (source, tests)) in std::mem::take(&mut properties.sources) {
            self.load_source(name, source, tests);
        }
        for dir in self.settings.test_paths.clone() {
            for path in files(&mut self.reader, &dir, &["sql"]) {
                self.load_singular(&dir, path, &properties);
            }
        }
        let fixtures: Vec<PathBuf> = self.settings.test_paths.iter().map(|dir| dir.join("fixtures")).collect();
        for node in std::mem::take(&mut properties.unit_tests) {
            let read = unit_tests::read_unit_test(&mut self.reader, &self.project, &fixtures, &node);
            self.project.unit_tests.extend(read);
        }
        self.report_orphans(&properties.models, "model");
        self.report_orphans(&properties.seeds, "seed");
        self.report_repeated_tests();
    }

    /// YAML about something that has no file: most often a misspelt name.
    fn report_orphans(&mut self, left: &IndexMap<String, NodeProperties>, what: &str) {
        for (name, properties) in left {
            let known = self.project.models.keys().chain(self.project.seeds.keys()).map(String::as_str);
            let hint = tidemill_project::error::nearest(name, known).map_or_else(
                || "remove the entry, or add the file".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            self.reader.fault_hint(
                &properties.place,
                codes::ORPHAN,
                format!("{what} has no file, name=`{name}`"),
                hint,
            );
        }
    }

    fn report_repeated_tests(&mut self) {
        let mut first: BTreeMap<&str, &Location> = BTreeMap::new();
        let mut faults = Vec::new();
        let singular = self.project.singular_tests.iter().map(|test| (test.name.as_str(), &test.location));
        let generic = self.project.generic_tests.iter().map(|test| (test.name.as_str(), &test.location));
        let unit = self.project.unit_tests.iter().map(|test| (test.name.as_str(), &test.location));
        for (name, location) in singular.chain(generic).chain(unit) {
            if let Some(before) = first.insert(name, location) {
                let message = format!("two tests have one name, name=`{name}`, first=`{before}`");
                faults.push(
                    Fault::new(message)
                        .at(location.clone())
                        .code(codes::REPEATED)
                        .hint("give one of them a name: `name: …`"),
                );
            }
        }
        self.reader.faults.extend(faults);
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
        let parsed = self.renderer.parse(&name, &path, &raw_sql);
        let mut merged = self.settings.folder_config(Kind::Models, &inner(dir, &path));
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
        let (description, columns, tests) =
            described.map_or_else(Default::default, |found| (found.description, found.columns, found.tests));
        self.add_tests(&NodeId::Model(name.clone()), tests);
        let model =
            Model { name: name.clone(), path, raw_sql, config, uses, columns, description, location: place.location() };
        self.project.models.insert(name, model);
    }

    fn load_seed(&mut self, dir: &Path, path: PathBuf, properties: &mut Properties) {
        let name = stem(&path);
        let described = properties.seeds.shift_remove(&name);
        let mut merged = self.settings.folder_config(Kind::Seeds, &inner(dir, &path));
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
        let (description, columns, tests) =
            described.map_or_else(Default::default, |found| (found.description, found.columns, found.tests));
        self.add_tests(&NodeId::Seed(name.clone()), tests);
        let seed = Seed {
            name: name.clone(),
            path,
            column_types,
            columns,
            delimiter: delimiter.unwrap_or(','),
            schema: config.schema,
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

    fn load_singular(&mut self, dir: &Path, path: PathBuf, properties: &Properties) {
        let Some(raw_sql) = self.read_text(&path) else { return };
        // `tests/fixtures/` holds rows of unit tests.
        if inner(dir, &path).first() == Some(&"fixtures") {
            return;
        }
        // `tests/generic/` holds `{% test %}` blocks, which were read with the macros.
        if raw_sql.contains("{% test ") || raw_sql.contains("{%- test ") || raw_sql.contains("{% data_test ") {
            return;
        }
        let name = stem(&path);
        let uses = match self.renderer.parse(&name, &path, &raw_sql) {
            Ok(uses) => uses,
            Err(error) => {
                self.reader.faults.extend(error.into_faults());
                return;
            }
        };
        let place = Place::start_of(&path);
        let mut merged = self.settings.folder_config(Kind::Tests, &inner(dir, &path));
        configure::merge(&mut merged, properties.singular.get(&name).map(Vec::as_slice).unwrap_or_default());
        let own = Node::from_json(&place_of_config(&path, &raw_sql), &Json::Object(uses.config.clone()));
        configure::merge(&mut merged, own.entries());
        let config = configure::test_config(&mut self.reader, merged, &place);
        if config.enabled {
            self.project.singular_tests.push(SingularTest {
                name,
                path,
                raw_sql,
                config,
                uses,
                location: place.location(),
            });
        }
    }

    fn add_tests(&mut self, node: &NodeId, tests: Vec<TestDeclaration>) {
        for declared in tests {
            let mut merged = self.settings.folder_config(Kind::Tests, &[]);
            let mut own = Node { place: declared.place.clone(), data: Data::Map(declared.config) };
            own.change_texts(&mut |place, text| resolve_text(&mut self.reader, &self.values, place, text));
            configure::merge(&mut merged, own.entries());
            let config = configure::test_config(&mut self.reader, merged, &declared.place);
            if !config.enabled {
                continue;
            }
            let name = declared
                .name
                .unwrap_or_else(|| test_name(node, &declared.test, declared.column.as_deref(), &declared.args));
            let mut test = GenericTest {
                name,
                test: declared.test,
                attached_to: node.clone(),
                column: declared.column,
                args: declared.args,
                config,
                uses: Uses::default(),
                description: declared.description,
                location: declared.place.location(),
            };
            match self.renderer.parse_test(&test) {
                Ok(uses) => {
                    test.uses = uses;
                    self.project.generic_tests.push(test);
                }
                Err(error) => self.reader.faults.extend(error.into_faults()),
            }
        }
    }
}

/// Seeds share folder configs' grammar with models, but are no views.
fn without_materialization(merged: Vec<Entry>) -> Vec<Entry> {
    merged.into_iter().filter(|entry| !matches!(entry.key.as_str(), "materialized" | "incremental_strategy")).collect()
}

fn read_macros(reader: &mut Reader, settings: &Settings) -> Vec<MacroFile> {
    let mut found = Vec::new();
    let generic = settings.test_paths.iter().map(|dir| dir.join("generic"));
    for dir in settings.macro_paths.iter().cloned().chain(generic) {
        for path in files(reader, &dir, &["sql"]) {
            if let Some(text) = read_text(reader, &path) {
                found.push(MacroFile { path, text });
            }
        }
    }
    found
}

fn read_properties(reader: &mut Reader, settings: &Settings, values: &YamlValues) -> Properties {
    let mut properties = Properties::default();
    let dirs = [&settings.model_paths, &settings.seed_paths, &settings.test_paths, &settings.macro_paths];
    let mut seen = std::collections::BTreeSet::new();
    for dir in dirs.into_iter().flatten() {
        for path in files(reader, dir, &["yml", "yaml"]) {
            if !seen.insert(path.clone()) {
                continue;
            }
            let Some(text) = read_text(reader, &path) else { continue };
            match Node::parse(&path, &text) {
                Ok(mut root) => {
                    resolve_configs(reader, values, &mut root);
                    properties.read(reader, &root);
                    properties.extras.read(reader, &root);
                }
                Err(fault) => reader.faults.push(fault),
            }
        }
    }
    properties
}

/// Resolves Jinja below every `config:` of models and seeds. Contracts of sources are resolved by who reads them; arguments of
/// tests stay as they are, because they may call `ref`.
fn resolve_configs(reader: &mut Reader, values: &YamlValues, root: &mut Node) {
    let Data::Map(top) = &mut root.data else { return };
    for entry in top.iter_mut().filter(|entry| matches!(entry.key.as_str(), "models" | "seeds")) {
        let Data::List(items) = &mut entry.value.data else { continue };
        for item in items {
            let Data::Map(keys) = &mut item.data else { continue };
            for key in keys.iter_mut().filter(|key| matches!(key.key.as_str(), "config" | "meta")) {
                key.value.change_texts(&mut |place, text| resolve_text(reader, values, place, text));
            }
        }
    }
}

fn resolve_text(reader: &mut Reader, values: &YamlValues, place: &Place, text: &str) -> Option<Json> {
    if !text.contains("{{") && !text.contains("{%") {
        return None;
    }
    match values.resolve(text) {
        Ok(value) => Some(value),
        Err(why) => {
            match why.split_once("; ") {
                Some((message, hint)) => reader.fault_hint(place, codes::YAML_EXPRESSION, message, hint),
                None => reader.fault(place, codes::YAML_EXPRESSION, why),
            }
            None
        }
    }
}

impl Project {
    /// The model or seed of a `ref`; `None` when there is none of that name, or the package is another.
    #[must_use]
    pub fn find_ref(&self, call: &RefCall) -> Option<NodeId> {
        if call.package.as_ref().is_some_and(|package| *package != self.name) {
            return None;
        }
        if self.models.contains_key(&call.name) {
            Some(NodeId::Model(call.name.clone()))
        } else if self.seeds.contains_key(&call.name) {
            Some(NodeId::Seed(call.name.clone()))
        } else {
            None
        }
    }
}
