//! Renders templates of a project.

mod test_call;

use std::path::Path;
use std::sync::Arc;

use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Value as Json, json};
use tidemill_project::Location;

use super::context::Root;
use super::explain::{Origin, explain};
use super::macros::Macros;
use super::marks::{byte_at, mark, place_at, unmark};
use super::relation::relation_value;
use super::session::{Known, ModelFacts, Purpose, Session, Subject};
use super::translate::translate_template;
use super::values::from_data;
use super::{RenderContext, SharedRelations, pycompat};
use crate::error::{Error, Result};
use crate::project::{GenericTest, Model, NodeId, Project, SingularTest, Uses};
use test_call::{fault_of_test, test_arguments};

/// Renders templates with the macros and the names of one project. Building one parses all macros, once; rendering reads
/// nothing but memory, and one renderer serves any number of threads.
#[derive(Debug)]
pub struct Renderer {
    env: Environment<'static>,
    macros: Macros,
    known: Arc<Known>,
}

impl Renderer {
    /// Builds the renderer of a project.
    ///
    /// # Errors
    /// Macro files that are no Jinja, and macros of one name; all at once.
    pub fn new(project: &Project) -> Result<Self> {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_debug(true);
        env.set_unknown_method_callback(pycompat::call_method);
        pycompat::add_filters(&mut env);

        let (macros, mut faults) = Macros::build(&project.macros);
        for file in &macros.files {
            if let Err(error) = env.add_template_owned(file.name.clone(), file.text.clone()) {
                faults.push(explain(&macros, Origin::new("", Path::new(&file.name), &file.text), &error));
            }
        }
        if !faults.is_empty() {
            return Err(Error::from_faults(faults));
        }
        let known = Arc::new(facts(project, &macros));
        Ok(Self { env, macros, known })
    }

    /// Names of the macros that templates may call, the shipped ones among them.
    pub fn macros(&self) -> impl Iterator<Item = &str> {
        self.macros.names()
    }

    /// Whether a generic test is the one that comes with the engine, and not a project's of the same name.
    #[must_use]
    pub fn is_shipped_test(&self, test: &GenericTest) -> bool {
        let name = format!("test_{}", test.test);
        self.package_of(test, &name).is_some_and(|package| self.macros.is_shipped(package, &name))
    }

    /// Learns what a template uses; `path` is for faults.
    ///
    /// # Errors
    /// The template is no Jinja, or a macro fails.
    pub fn parse(&self, package: &str, name: &str, path: &Path, text: &str) -> Result<Uses> {
        let facts = ModelFacts { package: package.to_owned(), ..ModelFacts::default() };
        let subject = Subject { id: NodeId::Model(name.to_owned()), facts };
        let origin = Origin::new(name, path, text);
        self.collect(&subject, origin, &[])
    }

    /// Learns what a generic test uses, its own node excepted.
    ///
    /// # Errors
    /// There is no test of that name, or its macro fails.
    pub fn parse_test(&self, test: &GenericTest) -> Result<Uses> {
        let call = self.test_call(test)?;
        // The shipped macros use nothing but their arguments, and most of those are plain values.
        let text = if self.macros.is_shipped(&call.package, &call.name) { call.expressions() } else { call.template() };
        if text.is_empty() {
            return Ok(Uses::default());
        }
        let subject = Subject::test(&test.name, &test.declared_by);
        let session = Session::new(&self.known, subject.clone(), Purpose::Parse { incremental: false });
        let relation = session.relation(&test.attached_to).map_err(|why| fault_of_test(test, why))?;
        let extra = test_arguments(test, relation_value(test.attached_to.clone(), relation));
        let origin = Origin::new(&test.name, &test.location.file, &text);
        self.collect(&subject, origin, &extra).map_err(|error| error.moved_to(&test.location))
    }

    /// Compiles a model to the SQL that runs.
    ///
    /// # Errors
    /// A ref without relation, a variable that is not set, a macro that fails: with file, line and macro stack.
    pub fn model(&self, model: &Model, context: &RenderContext, relations: &SharedRelations) -> Result<String> {
        let origin = Origin::new(&model.name, &model.path, &model.raw_sql);
        self.compile(self.subject(model), origin, Vec::new(), context, relations)
    }

    /// The place in a model's template of a line and column of its compiled SQL, both from 1; that of the tag where a macro or
    /// a variable gave the text. `None` when it cannot be told.
    pub(crate) fn locate(
        &self,
        model: &Model,
        context: &RenderContext,
        relations: &SharedRelations,
        sql: &str,
        line: usize,
        column: usize,
    ) -> Option<Location> {
        let marked = mark(&model.raw_sql);
        let origin = Origin::new(&model.name, &model.path, &marked);
        let rendered = self.compile(self.subject(model), origin, Vec::new(), context, relations).ok()?;
        let found = unmark(&rendered);
        if found.text != sql {
            return None;
        }
        let (line, column) = place_at(&model.raw_sql, found.origin(byte_at(sql, line, column)?)?);
        Some(Location::new(&model.path, line, column))
    }

    /// Whether a template may ask about tables while it is rendered: it, or a macro that it may call, says so.
    pub(crate) fn asks(&self, model: &Model) -> bool {
        self.macros.asks(&model.raw_sql)
    }

    fn subject(&self, model: &Model) -> Subject {
        Subject {
            id: NodeId::Model(model.name.clone()),
            facts: self.known.models.get(&model.name).cloned().unwrap_or_default(),
        }
    }

    /// Compiles a generic test to a query of the rows that fail it.
    ///
    /// # Errors
    /// As [`Renderer::model`].
    pub fn generic_test(
        &self,
        test: &GenericTest,
        context: &RenderContext,
        relations: &SharedRelations,
    ) -> Result<String> {
        let text = self.test_call(test)?.template();
        let Some(mut relation) = relations.relation(&test.attached_to) else {
            return Err(fault_of_test(test, format!("nothing to read from, node=`{}`", test.attached_to)));
        };
        if let Some(filter) = &test.config.filter {
            relation.sql = format!("(select * from {} where {filter}) as dbt_subquery", relation.sql);
        }
        let extra = test_arguments(test, relation_value(test.attached_to.clone(), relation));
        let origin = Origin::new(&test.name, &test.location.file, &text);
        self.compile(Subject::test(&test.name, &test.declared_by), origin, extra, context, relations)
            .map_err(|error| error.moved_to(&test.location))
    }

    /// Compiles a singular test to a query of the rows that should not exist.
    ///
    /// # Errors
    /// As [`Renderer::model`].
    pub fn singular_test(
        &self,
        test: &SingularTest,
        context: &RenderContext,
        relations: &SharedRelations,
    ) -> Result<String> {
        let subject = Subject::test(&test.name, &test.package);
        let origin = Origin::new(&test.name, &test.path, &test.raw_sql);
        self.compile(subject, origin, Vec::new(), context, relations)
    }

    /// Compiles a text that belongs to no file: `show --inline`, a fixture.
    ///
    /// # Errors
    /// As [`Renderer::model`].
    pub fn inline(&self, text: &str, context: &RenderContext, relations: &SharedRelations) -> Result<String> {
        let path = Path::new("inline");
        let subject = Subject::bare(NodeId::Model("inline".to_owned()));
        let origin = Origin::new("inline", path, text);
        self.compile(subject, origin, Vec::new(), context, relations)
    }

    /// What naming macros are told about a node.
    pub(crate) fn naming_node(
        kind: &str,
        package: &str,
        name: &str,
        config: &serde_json::Map<String, Json>,
        tags: &[String],
    ) -> Json {
        json!({
            "name": name, "resource_type": kind, "package_name": package, "tags": tags, "config": config,
            "unique_id": format!("{kind}.{package}.{name}"), "fqn": [package, name], "version": null,
        })
    }

    /// Calls `generate_schema_name` or `generate_alias_name` of the project.
    ///
    /// # Errors
    /// The macro fails.
    pub(crate) fn naming(&self, name: &str, custom: Option<&str>, node: &Json) -> Result<String> {
        let text = format!("{{{{ {name}(__custom, __node) }}}}");
        let subject = Subject::bare(NodeId::Model(node["name"].as_str().unwrap_or_default().to_owned()));
        let session = Session::new(&self.known, subject, Purpose::Parse { incremental: false });
        let custom = custom.map_or_else(|| Value::from(()), Value::from);
        let extra = vec![("__custom", custom), ("__node", from_data(node))];
        let origin = Origin::new(name, Path::new("dbt_project.yml"), &text);
        Ok(self.render(&session, origin, extra)?.trim().to_owned())
    }

    /// Compiles the text of a hook: of a model, or of the project.
    ///
    /// # Errors
    /// As [`Renderer::model`].
    pub(crate) fn statement(
        &self,
        model: Option<&Model>,
        text: &str,
        context: &RenderContext,
        relations: &SharedRelations,
    ) -> Result<String> {
        let (subject, name, path) = match model {
            Some(model) => (self.subject(model), model.name.as_str(), model.path.as_path()),
            None => (Subject::bare(NodeId::Model("hook".to_owned())), "hook", Path::new("dbt_project.yml")),
        };
        self.compile(subject, Origin::new(name, path, text), Vec::new(), context, relations)
    }

    fn collect(&self, subject: &Subject, origin: Origin<'_>, extra: &[(&'static str, Value)]) -> Result<Uses> {
        let session = Session::new(&self.known, subject.clone(), Purpose::Parse { incremental: false });
        self.render(&session, origin, extra.to_vec())?;
        let (mut uses, asked_incremental) = session.take_uses();
        if asked_incremental {
            let session = Session::new(&self.known, subject.clone(), Purpose::Parse { incremental: true });
            self.render(&session, origin, extra.to_vec())?;
            let (more, _) = session.take_uses();
            add_new(&mut uses.refs, more.refs);
            add_new(&mut uses.sources, more.sources);
            add_new(&mut uses.watermarks, more.watermarks);
            add_new(&mut uses.vars, more.vars);
        }
        Ok(uses)
    }

    fn compile(
        &self,
        subject: Subject,
        origin: Origin<'_>,
        extra: Vec<(&'static str, Value)>,
        context: &RenderContext,
        relations: &SharedRelations,
    ) -> Result<String> {
        let purpose = Purpose::Compile { context: Box::new(context.clone()), relations: Arc::clone(relations) };
        self.render(&Session::new(&self.known, subject, purpose), origin, extra)
    }

    fn render(&self, session: &Arc<Session>, origin: Origin<'_>, extra: Vec<(&'static str, Value)>) -> Result<String> {
        if !origin.text.contains('{') {
            return Ok(origin.text.to_owned());
        }
        let translated = translate_template(origin.text);
        // Importing runs the definitions of a file's macros; most models need few files or none.
        let imports = self.macros.imports(origin.text);
        let root = Value::from_object(Root { session: Arc::clone(session), extra });
        let render = |imports: &str| {
            self.env
                .render_named_str("template", &format!("{imports}{}", translated.text), root.clone())
                .map_err(|error| (error, imports.len()))
        };
        let rendered = match render(&imports) {
            // A name that was put together while the template ran.
            Err((error, _)) if is_unknown_function(&error) => render(&self.macros.import_all()),
            rendered => rendered,
        };
        rendered.map_err(|(error, prefix_bytes)| {
            let origin = Origin { rendered: Some((&translated, prefix_bytes)), ..origin };
            Error::from_template(explain(&self.macros, origin, &error), error)
        })
    }
}

fn add_new<T: PartialEq>(known: &mut Vec<T>, more: Vec<T>) {
    for item in more {
        if !known.contains(&item) {
            known.push(item);
        }
    }
}

/// Whether the innermost error says that a function is not known.
fn is_unknown_function(error: &minijinja::Error) -> bool {
    let mut at = error;
    while let Some(inner) = std::error::Error::source(at).and_then(|inner| inner.downcast_ref::<minijinja::Error>()) {
        at = inner;
    }
    at.kind() == minijinja::ErrorKind::UnknownFunction
}

fn facts(project: &Project, macros: &Macros) -> Known {
    let models = project.models.values().map(|model| {
        let columns = model.columns.values();
        let facts = ModelFacts {
            package: model.package.clone(),
            schema: model.config.schema.clone(),
            alias: model.config.alias.clone(),
            tags: model.config.tags.clone(),
            config: model.config.raw.clone(),
            path: project.relative(&model.path).to_path_buf(),
            columns: columns
                .map(|column| (column.name.clone(), column.data_type.clone(), column.description.clone()))
                .collect(),
            description: model.description.clone(),
        };
        (model.name.clone(), facts)
    });
    let own = macros.qualified().filter(|(package, _)| *package == project.name).map(|(_, name)| name.to_owned());
    Known {
        project: project.name.clone(),
        vars: project.vars.clone(),
        env: project.env.clone(),
        target: project.target.clone(),
        models: models.collect(),
        versions: project.latest_versions.iter().map(|(name, model)| (name.clone(), model.clone())).collect(),
        seeds: project.seeds.keys().cloned().collect(),
        sources: project.sources.keys().cloned().collect(),
        packages: project.packages.clone(),
        dispatch: project.dispatch.clone(),
        docs: project.docs.clone(),
        macros: macros.names().map(str::to_owned).collect(),
        own_macros: own.collect(),
    }
}

impl Error {
    /// Moves the fault of a generated template to the YAML entry that it was generated from, unless it lies in a macro.
    fn moved_to(self, location: &Location) -> Self {
        self.map_fault(|fault| {
            if fault.location.as_ref().is_some_and(|at| at.file == location.file) {
                fault.location = Some(location.clone());
            }
        })
    }
}
