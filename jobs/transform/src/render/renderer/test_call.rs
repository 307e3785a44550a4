//! Generic tests as calls of their macros.

use std::fmt::Write as _;
use std::sync::LazyLock;

use minijinja::value::Value;
use regex::Regex;
use serde_json::Value as Json;
use tidemill_project::Fault;
use tidemill_project::error::nearest;

use super::super::{mutable, signature};
use super::Renderer;
use crate::error::{Error, Result, codes};
use crate::project::GenericTest;

/// A text argument of a generic test that dbt takes for an expression: `to: ref('customers')`.
static EXPRESSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)^\s*(?:env_var|ref|var|source)\s*\(.+\)\s*$").expect("the expression is a constant")
});

/// The call of a generic test's macro: arguments that are expressions are spliced in, others travel as values.
pub(super) struct TestCall {
    pub(super) package: String,
    pub(super) name: String,
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
    pub(super) fn template(&self) -> String {
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
        format!("{before}{{{{ {}.{}({}) }}}}", self.package, self.name, arguments.join(", "))
    }

    /// The arguments that may use something, each as it stands; empty when none does.
    pub(super) fn expressions(&self) -> String {
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

pub(super) fn test_arguments(test: &GenericTest, model: Value) -> Vec<(&'static str, Value)> {
    vec![
        ("__model", model),
        ("__column_name", test.column.as_deref().map(Value::from).unwrap_or_default()),
        ("__arguments", mutable::from_entries(&test.args)),
    ]
}

pub(super) fn fault_of_test(test: &GenericTest, why: String) -> Error {
    Error::from_faults(vec![Fault::new(why).at(test.location.clone()).code(codes::GENERIC_TEST)])
}

impl Renderer {
    /// The package whose macro a generic test calls: the one that it is written with, else as any macro is looked up.
    pub(super) fn package_of<'a>(&'a self, test: &'a GenericTest, name: &str) -> Option<&'a str> {
        let written = test.package.as_deref().filter(|package| self.macros.has(package, name));
        written.or_else(|| self.macros.package_of(name, &self.known.project))
    }

    pub(super) fn test_call(&self, test: &GenericTest) -> Result<TestCall> {
        let name = format!("test_{}", test.test);
        let Some(package) = self.package_of(test, &name) else {
            let near = nearest(&test.test, self.macros.tests());
            let mut fault = Fault::new(format!("no generic test of that name, test=`{}`", test.test))
                .at(test.location.clone())
                .code(codes::GENERIC_TEST);
            let is_missing = |package: &&String| !self.known.is_package(package);
            if let Some(package) = test.package.as_ref().filter(is_missing) {
                fault = fault.hint(format!(
                    "there is no package `{package}`: install it into `dbt_packages/`, or name its folder in packages.yml: \
                     `local: …`"
                ));
            } else if let Some(near) = near {
                fault = fault.hint(format!("did you mean `{near}`?"));
            }
            return Err(Error::from_faults(vec![fault]));
        };
        let arguments = vec![("model".to_owned(), Argument::Value("__model".to_owned()))];
        let mut call = TestCall { package: package.to_owned(), name, arguments };
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
        self.check_arguments(test, &call)?;
        Ok(call)
    }

    /// A test takes what its macro's definition names, and needs what has no default there.
    fn check_arguments(&self, test: &GenericTest, call: &TestCall) -> Result<()> {
        let Some((text, hidden)) = self.macros.definition_of(&call.package, &call.name) else { return Ok(()) };
        let Some(parameters) = signature::parameters(text, &hidden) else { return Ok(()) };
        // A macro that reads `kwargs` takes whatever it is given.
        let is_open = parameters.iter().any(|parameter| parameter.name == "kwargs");
        let mut faults = Vec::new();
        let fault = |message: String| Fault::new(message).at(test.location.clone()).code(codes::GENERIC_TEST);
        for (key, _) in &call.arguments {
            if is_open || parameters.iter().any(|parameter| parameter.name == *key) {
                continue;
            }
            if key == "column_name" {
                let hint = "declare it on the model, under `data_tests:` beside `columns:`";
                faults.push(fault(format!("test is not for columns, test=`{}`", test.test)).hint(hint));
                continue;
            }
            let known = || {
                parameters.iter().map(|one| one.name.as_str()).filter(|name| !["model", "column_name"].contains(name))
            };
            let hint = match nearest(key, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it takes: {}", known().collect::<Vec<_>>().join(", ")),
            };
            faults
                .push(fault(format!("unknown argument of a test, argument=`{key}`, test=`{}`", test.test)).hint(hint));
        }
        // A package's macro may well do without what it names: there it has no value.
        let is_packaged = call.package != self.known.project && !self.macros.is_shipped(&call.package, &call.name);
        for parameter in parameters.iter().filter(|parameter| !parameter.has_default && !is_packaged) {
            if call.arguments.iter().any(|(key, _)| *key == parameter.name) {
                continue;
            }
            let mut missing =
                fault(format!("argument of a test is missing, argument=`{}`, test=`{}`", parameter.name, test.test));
            if parameter.name == "column_name" {
                missing = missing.hint("declare it below a column, or name one with `column_name:`");
            }
            faults.push(missing);
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::from_faults(faults)) }
    }
}
