//! dbt's project variables, and the `{{ var('x') }}` that contracts may hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::ContractError;
use crate::document::{Data, FileError, Node, Place, Reader, Scalar, ScalarKind, codes, parse_yaml};
use crate::error::{Fault, nearest};

/// The variables of a dbt project by name: those of `vars:` in `dbt_project.yml`, global ones and those scoped to the
/// project's own name, under the ones given for this invocation.
#[derive(Clone, Debug, Default)]
pub struct Vars {
    values: BTreeMap<String, Value>,
}

impl Vars {
    /// Reads the variables of the project in `models_dir`. A project file that is not there counts as one without variables.
    ///
    /// Order of precedence: `overrides`, then those scoped to the project, then global ones.
    ///
    /// # Errors
    /// `dbt_project.yml` is not readable or not YAML.
    pub fn load(models_dir: &Path, overrides: &BTreeMap<String, Value>) -> Result<Self, ContractError> {
        let project = ProjectFile::read(models_dir)?;
        let mut values = BTreeMap::new();
        if let Some(vars) = project.root.get("vars") {
            let own_name = project.root.get("name").and_then(Node::text);
            for (key, node) in vars.entries() {
                if Some(key.name.as_str()) != own_name {
                    values.insert(key.name.clone(), node.to_json());
                }
            }
            let scoped = own_name.and_then(|name| vars.get(name)).map(Node::entries).unwrap_or_default();
            values.extend(scoped.iter().map(|(key, node)| (key.name.clone(), node.to_json())));
        }
        values.extend(overrides.iter().map(|(name, value)| (name.clone(), value.clone())));
        Ok(Self { values })
    }

    /// Reads the overrides of a command line: a YAML or JSON mapping of names to values.
    ///
    /// # Errors
    /// The text is no YAML, or no mapping.
    pub fn parse_overrides(text: &str) -> Result<BTreeMap<String, Value>, Fault> {
        let documents = parse_yaml(Path::new("--vars"), text)?;
        let Some(Node { data: Data::Map(entries), .. }) = documents.first() else {
            let hint = "write it like {logins_tz: Europe/Berlin}";
            return Err(Fault::new("text is no mapping of names to values").code(codes::WRONG_TYPE).hint(hint));
        };
        Ok(entries.iter().map(|(key, node)| (key.name.clone(), node.to_json())).collect())
    }

    /// A variable's value, with the type that the file gives it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// All variables, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl FromIterator<(String, Value)> for Vars {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(values: I) -> Self {
        Self { values: values.into_iter().collect() }
    }
}

/// `dbt_project.yml`, as far as this room needs it.
pub(super) struct ProjectFile {
    root: Node,
}

impl ProjectFile {
    pub(super) fn read(models_dir: &Path) -> Result<Self, FileError> {
        let empty = Node { place: Place::default(), data: Data::Map(Vec::new()) };
        let path = models_dir.join("dbt_project.yml");
        if !path.is_file() {
            return Ok(Self { root: empty });
        }
        let text = std::fs::read_to_string(&path).map_err(|source| FileError::Read { path: path.clone(), source })?;
        let documents = parse_yaml(&path, &text).map_err(|fault| FileError::Faults(vec![fault]))?;
        Ok(Self { root: documents.into_iter().next().unwrap_or(empty) })
    }

    /// The folders that hold models and their YAML, `models` unless declared.
    pub(super) fn model_dirs(&self, models_dir: &Path) -> Vec<PathBuf> {
        // dbt's older name, which old projects still carry.
        match self.root.get("model-paths").or_else(|| self.root.get("source-paths")) {
            Some(paths) => paths.items().iter().filter_map(Node::text).map(|path| models_dir.join(path)).collect(),
            None => vec![models_dir.join("models")],
        }
    }
}

/// `{{ … }}` with what stands inside, blanks and white-space control excluded.
static EXPRESSION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{\{-?\s*(.*?)\s*-?\}\}").expect("the expression is a constant"));

/// `var('name')` or `var('name', default)`, with filters that only tell dbt the type.
static VAR: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"^var\(\s*(?:'([^']*)'|"([^"]*)")\s*(?:,\s*(.+?)\s*)?\)(?:\s*\|\s*(?:int|float|string|as_number|as_bool|as_text|as_native))*$"#,
    )
    .expect("the expression is a constant")
});

/// Puts the values of variables where a node's texts ask for them. A text that is one expression takes the variable's
/// type, so that `"{{ var('grace_s') }}"` is a number; inside a longer text the value is spelled out.
pub(super) fn resolve(reader: &mut Reader<'_>, vars: &Vars, node: &mut Node) {
    node.for_each_scalar(&mut |node| {
        let place = node.place;
        let Data::Scalar(Scalar { kind: ScalarKind::Text, text, .. }) = &node.data else { return };
        if !text.contains("{{") {
            return;
        }
        let whole = EXPRESSION.find(text).is_some_and(|found| found.as_str() == text.trim());
        let mut known = true;
        let mut last = Value::Null;
        let spelled = EXPRESSION.replace_all(text, |captures: &regex::Captures<'_>| {
            let Some(value) = evaluate(reader, vars, place, &captures[1]) else {
                known = false;
                return String::new();
            };
            let spelled = match &value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            last = value;
            spelled
        });
        *node = match (known, whole) {
            (false, _) => Node::scalar(place, ScalarKind::Unresolved, text.clone()),
            (true, true) => Node::from_json(place, &last),
            (true, false) => Node::scalar(place, ScalarKind::Text, spelled),
        };
    });
}

fn evaluate(reader: &mut Reader<'_>, vars: &Vars, place: Place, expression: &str) -> Option<Value> {
    let Some(captures) = VAR.captures(expression) else {
        reader.fault_hint(
            place,
            codes::BAD_VALUE,
            format!("expression is not understood in a contract, expression=`{expression}`"),
            "contracts know {{ var('name') }} and {{ var('name', default) }}",
        );
        return None;
    };
    let name = captures.get(1).or_else(|| captures.get(2)).map_or("", |name| name.as_str());
    if let Some(value) = vars.get(name) {
        return Some(value.clone());
    }
    if let Some(default) = captures.get(3) {
        return Some(literal(default.as_str()));
    }
    let hint = match nearest(name, vars.values.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add `{name}` to `vars:` of dbt_project.yml, or give a default: {{{{ var('{name}', …) }}}}"),
    };
    reader.fault_hint(place, codes::MISSING_VARIABLE, format!("variable is not set, var=`{name}`"), hint);
    None
}

/// A Jinja literal; what is none is taken as its text.
fn literal(text: &str) -> Value {
    let quoted = ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    match (quoted, text) {
        (Some(inner), _) => Value::String(inner.to_owned()),
        (None, "True") => Value::Bool(true),
        (None, "False") => Value::Bool(false),
        (None, "None" | "none") => Value::Null,
        (None, _) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}
