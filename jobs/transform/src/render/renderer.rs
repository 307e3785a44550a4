//! Renders templates of a project.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior};
use regex::Regex;
use serde_json::Value as Json;
use tidemill_project::error::nearest;
use tidemill_project::{Fault, Location};

use super::context::{Root, relation_value};
use super::explain::{Origin, explain};
use super::macros::{IMPORT, PRELUDE, Prelude, translate};
use super::session::{Known, ModelFacts, Purpose, Session, Subject};
use super::values::from_data;
use super::{RenderContext, SharedRelations, pycompat};
use crate::error::{Error, Result, codes};
use crate::project::{GenericTest, Model, NodeId, Project, SingularTest, Uses};

/// A text argument of a generic test that dbt takes for an expression: `to: ref('customers')`.
static EXPRESSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)^\s*(?:env_var|ref|var|source)\s*\(.+\)\s*$").expect("the expression is a constant")
});

/// Renders templates with the macros and the names of one project. Building one parses all macros, once; rendering reads
/// nothing but memory, and one renderer serves any number of threads.
#[derive(Debug)]
pub struct Renderer {
    env: Environment<'static>,
    prelude: Prelude,
    known: Arc<Known>,
}

impl Renderer {
    /// Builds the renderer of a project.
    ///
    /// # Errors
    /// Macro files that are no Jinja, and macros of one name; all at once.
    pub fn new(project: &Project) -> Result<Self> {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        env.set_debug(true);
        env.set_unknown_method_callback(pycompat::call_method);
        for filter in ["as_number", "as_native", "as_bool", "as_text"] {
            env.add_filter(filter, |value: Value| value);
        }

        let mut faults = Vec::new();
        for file in &project.macros {
            let text = translate(&file.text);
            if let Err(error) = env.template_from_named_str("macro file", &text) {
                let origin = Origin::new("", &file.path, &text);
                faults.push(explain(&Prelude::default(), origin, &error));
            }
        }
        let (prelude, repeated) = Prelude::build(&project.macros);
        faults.extend(repeated);
        if !faults.is_empty() {
            return Err(Error::from_faults(faults));
        }
        if let Err(error) = env.add_template_owned(PRELUDE, prelude.text.clone()) {
            let origin = Origin::new("", Path::new(PRELUDE), "");
            return Err(Error::from_template(explain(&prelude, origin, &error), error));
        }
        Ok(Self { env, prelude, known: Arc::new(facts(project)) })
    }

    /// Names of the macros that templates may call, the shipped ones among them.
    pub fn macros(&self) -> impl Iterator<Item = &str> {
        self.prelude.names.iter().map(String::as_str)
    }

    /// Whether a generic test is the one that comes with the engine, and not a project's of the same name.
    #[must_use]
    pub fn is_shipped_test(&self, test: &str) -> bool {
        self.prelude.is_shipped(&format!("test_{test}"))
    }

    /// Learns what a template uses; `path` is for faults.
    ///
    /// # Errors
    /// The template is no Jinja, or a macro fails.
    pub fn parse(&self, name: &str, path: &Path, text: &str) -> Result<Uses> {
        let subject = Subject::bare(NodeId::Model(name.to_owned()));
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
        let text = if self.prelude.is_shipped(&call.name) { call.expressions() } else { call.template() };
        if text.is_empty() {
            return Ok(Uses::default());
        }
        let subject = Subject::bare(NodeId::Test(test.name.clone()));
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
        let subject = Subject {
            id: NodeId::Model(model.name.clone()),
            facts: self.known.models.get(&model.name).cloned().unwrap_or_default(),
        };
        let origin = Origin::new(&model.name, &model.path, &model.raw_sql);
        self.compile(subject, origin, Vec::new(), context, relations)
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
        self.compile(Subject::bare(NodeId::Test(test.name.clone())), origin, extra, context, relations)
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
        let subject = Subject::bare(NodeId::Test(test.name.clone()));
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
        // The import runs every macro's definition; most models call none.
        let text = origin.text;
        let imports = text.contains("adapter") || self.prelude.names.iter().any(|name| text.contains(name.as_str()));
        let prefix = if imports { IMPORT } else { "" };
        let origin = Origin { prefix_bytes: prefix.len(), ..origin };
        let root = Root { session: Arc::clone(session), extra };
        self.env
            .render_named_str("template", &format!("{prefix}{text}"), Value::from_object(root))
            .map_err(|error| Error::from_template(explain(&self.prelude, origin, &error), error))
    }

    fn test_call(&self, test: &GenericTest) -> Result<TestCall> {
        let name = format!("test_{}", test.test);
        if !self.prelude.names.contains(&name) {
            let near = nearest(&test.test, self.prelude.tests());
            let mut fault = Fault::new(format!("no generic test of that name, test=`{}`", test.test))
                .at(test.location.clone())
                .code(codes::GENERIC_TEST);
            if let Some(near) = near {
                fault = fault.hint(format!("did you mean `{near}`?"));
            }
            return Err(Error::from_faults(vec![fault]));
        }
        let mut call = TestCall { name, arguments: vec![("model".to_owned(), Argument::Value("__model".to_owned()))] };
        if test.column.is_some() {
            call.arguments.push(("column_name".to_owned(), Argument::Value("__column_name".to_owned())));
        }
        for (key, value) in &test.args {
            if !key.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
                return Err(fault_of_test(test, format!("argument is no name, argument=`{key}`")));
            }
            let argument = match value {
                Json::String(text) if EXPRESSION.is_match(text) => Argument::Expression(text.trim().to_owned()),
                Json::String(text) if text.contains("{{") => Argument::Template(text.clone()),
                _ => Argument::Value(format!("__arguments.{key}")),
            };
            call.arguments.push((key.clone(), argument));
        }
        Ok(call)
    }
}

/// The call of a generic test's macro: arguments that are expressions are spliced in, others travel as values.
struct TestCall {
    name: String,
    arguments: Vec<(String, Argument)>,
}

enum Argument {
    /// A name in the root of the template.
    Value(String),
    /// `ref('customers')`.
    Expression(String),
    /// `{{ ref('customers') }} as c`.
    Template(String),
}

impl TestCall {
    /// `{{ test_not_null(model=__model, column_name=__column_name) }}`.
    fn template(&self) -> String {
        let mut before = String::new();
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for (key, argument) in &self.arguments {
            arguments.push(match argument {
                Argument::Value(text) | Argument::Expression(text) => format!("{key}={text}"),
                Argument::Template(text) => {
                    // Writing to a string cannot fail.
                    let _ = write!(before, "{{% set __argument_{key} %}}{text}{{% endset %}}");
                    format!("{key}=__argument_{key}")
                }
            });
        }
        format!("{before}{{{{ {}({}) }}}}", self.name, arguments.join(", "))
    }

    /// The arguments that may use something, each as it stands; empty when none does.
    fn expressions(&self) -> String {
        self.arguments
            .iter()
            .filter_map(|(_, argument)| match argument {
                Argument::Value(_) => None,
                Argument::Expression(text) => Some(format!("{{{{ {text} }}}}")),
                Argument::Template(text) => Some(text.clone()),
            })
            .collect()
    }
}

fn test_arguments(test: &GenericTest, model: Value) -> Vec<(&'static str, Value)> {
    vec![
        ("__model", model),
        ("__column_name", test.column.as_deref().map(Value::from).unwrap_or_default()),
        ("__arguments", from_data(&test.args)),
    ]
}

fn fault_of_test(test: &GenericTest, why: String) -> Error {
    Error::from_faults(vec![Fault::new(why).at(test.location.clone()).code(codes::GENERIC_TEST)])
}

fn add_new<T: PartialEq>(known: &mut Vec<T>, more: Vec<T>) {
    for item in more {
        if !known.contains(&item) {
            known.push(item);
        }
    }
}

fn facts(project: &Project) -> Known {
    let models = project.models.values().map(|model| {
        let facts = ModelFacts {
            schema: model.config.schema.clone(),
            alias: model.config.alias.clone(),
            tags: model.config.tags.clone(),
            config: model.config.raw.clone(),
            path: project.relative(&model.path).to_path_buf(),
        };
        (model.name.clone(), facts)
    });
    Known {
        project: project.name.clone(),
        vars: project.vars.clone(),
        env: project.env.clone(),
        target: project.target.clone(),
        models: models.collect(),
        seeds: project.seeds.keys().cloned().collect(),
        sources: project.sources.keys().cloned().collect(),
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
