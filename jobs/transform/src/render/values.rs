//! Jinja in YAML: `"{{ var('grace') }}"`.

use minijinja::value::{Kwargs, Serde, Value, from_args};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use tidemill_project::error::nearest;

use crate::project::{EnvVars, Target};

/// Resolves expressions in YAML with what is known while a project is read: `var`, `env_var`, `target`.
#[derive(Debug)]
pub(crate) struct YamlValues {
    env: Environment<'static>,
}

impl YamlValues {
    pub(crate) fn new(vars: &Map<String, Json>, env_vars: &EnvVars, target: &Target) -> Self {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        let vars = vars.clone();
        env.add_function("var", move |state: &State<'_, '_>, args: &[Value]| -> Result<Value, Error> {
            let (name, _, _): (&str, Option<Value>, Kwargs) = from_args(args)?;
            let default = args.get(1).filter(|default| !default.is_kwargs()).cloned();
            let value = look_up_var(&vars, "", name, default)?;
            match value.as_str().filter(|text| text.contains("{{") && !text.contains("var(")) {
                // A text that says more than is known here (`ref`) is rendered where SQL uses it.
                Some(text) => Ok(state.env().render_str(text, ()).map_or_else(|_| value.clone(), Value::from)),
                None => Ok(value),
            }
        });
        let env_vars = env_vars.clone();
        env.add_function("env_var", move |name: &str, default: Option<Value>| look_up_env(&env_vars, name, default));
        env.add_global("target", from_data(target_facts(target, "")));
        super::pycompat::add_filters(&mut env);
        Self { env }
    }

    /// A text that is one expression takes the value's type; in a longer text the value is spelled out.
    pub(crate) fn resolve(&self, text: &str) -> Result<Json, String> {
        let whole = text.trim().strip_prefix("{{").and_then(|inner| inner.strip_suffix("}}"));
        let value = match whole.filter(|inner| !inner.contains("{{")) {
            Some(expression) => {
                let expression = expression.trim().trim_matches('-');
                self.env.compile_expression_owned(expression.to_owned()).and_then(|found| found.eval(()))
            }
            None => self.env.render_str(text, ()).map(Value::from),
        };
        let value =
            value.map_err(|error| error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned))?;
        Ok(to_json(&value))
    }
}

/// dbt's `target`; the profile's name is the project's.
pub(super) fn target_facts(target: &Target, project: &str) -> Json {
    json!({
        "name": target.name, "target_name": target.name, "schema": target.schema, "type": "tidemill",
        "profile_name": project, "threads": 1, "database": super::DATABASE, "dbname": super::DATABASE,
    })
}

/// Plain data as a value.
pub(super) fn from_data(data: impl Serialize) -> Value {
    Value::from(Serde(data))
}

/// A value as JSON; what JSON cannot hold becomes its text.
pub(super) fn to_json(value: &Value) -> Json {
    serde_json::to_value(value).unwrap_or_else(|_| Json::String(value.to_string()))
}

/// `var(name, default)` of a template that belongs to `package`: what the project sets for that package wins.
pub(super) fn look_up_var(
    vars: &Map<String, Json>,
    package: &str,
    name: &str,
    default: Option<Value>,
) -> Result<Value, Error> {
    let scoped = vars.get(package).and_then(|scoped| scoped.get(name));
    if let Some(value) = scoped.or_else(|| vars.get(name)) {
        return Ok(super::mutable::from_json(value));
    }
    default.ok_or_else(|| {
        let hint = match nearest(name, vars.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add it to `vars:` of dbt_project.yml, or give a default: var('{name}', ...)"),
        };
        Error::new(ErrorKind::InvalidOperation, format!("variable is not set, var=`{name}`; {hint}"))
    })
}

/// `env_var(name, default)`.
pub(super) fn look_up_env(env: &EnvVars, name: &str, default: Option<Value>) -> Result<Value, Error> {
    match env.0.get(name) {
        Some(value) => Ok(Value::from(value.as_str())),
        None => default.ok_or_else(|| {
            Error::new(ErrorKind::InvalidOperation, format!("environment variable is not set, name=`{name}`"))
        }),
    }
}
