//! The state of one render, shared by all functions that its template calls.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use minijinja::value::Value;
use serde_json::{Map, Value as Json};
use tidemill_project::SourceName;
use tidemill_project::error::nearest;

use super::macros::{SHIPPED_PACKAGES, STAND_INS};
use super::{Relation, RenderContext, SharedRelations, TableRows};
use crate::project::{EnvVars, NodeId, RefCall, Target, Uses};

/// Macros call each other, and variables name others, seldom more than a handful deep.
const MAX_DEPTH: usize = 64;

/// What a project knows before any render, shared by all.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) project: String,
    pub(super) vars: Map<String, Json>,
    pub(super) env: EnvVars,
    pub(super) target: Target,
    pub(super) models: BTreeMap<String, ModelFacts>,
    /// `name.v2` and, for the latest version, `name` -> the model's name.
    pub(super) versions: BTreeMap<String, String>,
    pub(super) seeds: Vec<String>,
    pub(super) sources: Vec<SourceName>,
    /// The project's packages, itself excepted.
    pub(super) packages: Vec<String>,
    /// `dispatch` of `dbt_project.yml`: namespace -> packages to search, in order.
    pub(super) dispatch: BTreeMap<String, Vec<String>>,
    pub(super) docs: BTreeMap<String, String>,
    /// Names of all macros, whatever their package.
    pub(super) macros: BTreeSet<String>,
    /// Names of the project's own macros: they win over built-in functions.
    pub(super) own_macros: BTreeSet<String>,
}

impl Known {
    /// Whether a name is that of a package whose macros can be called by it.
    pub(super) fn is_package(&self, name: &str) -> bool {
        name == self.project
            || SHIPPED_PACKAGES.contains(&name)
            || STAND_INS.contains(&name)
            || self.packages.iter().any(|package| package == name)
    }

    /// The model or seed of a `ref`.
    pub(super) fn find(&self, call: &RefCall) -> Option<NodeId> {
        let versioned = call.version.as_ref().map(|version| format!("{}.v{version}", call.name));
        let wanted = versioned.as_deref().unwrap_or(&call.name);
        if self.models.contains_key(wanted) {
            return Some(NodeId::Model(wanted.to_owned()));
        }
        if let Some(model) = self.versions.get(wanted) {
            return Some(NodeId::Model(model.clone()));
        }
        self.seeds.contains(&call.name).then(|| NodeId::Seed(call.name.clone()))
    }
}

/// What templates may ask about a node.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelFacts {
    pub(super) package: String,
    pub(super) schema: Option<String>,
    pub(super) alias: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) config: Map<String, Json>,
    /// Relative to the project.
    pub(super) path: PathBuf,
    /// Names of the columns that YAML describes, with type and description.
    pub(super) columns: Vec<(String, Option<String>, String)>,
    pub(super) description: String,
}

/// Who is rendered.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) id: NodeId,
    pub(super) facts: ModelFacts,
}

impl Subject {
    /// A node of which nothing but its name is known.
    pub(super) fn bare(id: NodeId) -> Self {
        Self { id, facts: ModelFacts::default() }
    }

    /// A test of a package.
    pub(super) fn test(name: &str, package: &str) -> Self {
        let facts = ModelFacts { package: package.to_owned(), ..ModelFacts::default() };
        Self { id: NodeId::Test(name.to_owned()), facts }
    }
}

/// Why a template is rendered.
pub(super) enum Purpose {
    /// To learn what it uses, down the branch of `is_incremental()` that is given.
    Parse { incremental: bool },
    /// To run the result.
    Compile { context: Box<RenderContext>, relations: SharedRelations },
}

pub(super) struct Session {
    pub(super) known: Arc<Known>,
    pub(super) subject: Subject,
    pub(super) purpose: Purpose,
    /// `model`, which macros close over far more often than they look at it.
    pub(super) model: OnceLock<Value>,
    /// `graph`, likewise.
    pub(super) graph: OnceLock<Value>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    uses: Uses,
    asked_incremental: bool,
    /// The value of a `return` on its way to the macro's caller.
    returned: Option<Value>,
    macros: HashMap<(String, String), Value>,
    /// Packages of the macros that are running, innermost last.
    running: Vec<String>,
    results: BTreeMap<String, Value>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("subject", &self.subject.id).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(known: &Arc<Known>, subject: Subject, purpose: Purpose) -> Arc<Self> {
        Arc::new(Self {
            known: Arc::clone(known),
            subject,
            purpose,
            model: OnceLock::new(),
            graph: OnceLock::new(),
            found: Mutex::default(),
        })
    }

    /// A panic in between leaves data that is still whole: each lock covers one field access.
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the render used.
    pub(super) fn take_uses(&self) -> (Uses, bool) {
        let mut found = self.found();
        (std::mem::take(&mut found.uses), found.asked_incremental)
    }

    pub(super) fn executes(&self) -> bool {
        matches!(self.purpose, Purpose::Compile { .. })
    }

    pub(super) fn context(&self) -> Option<&RenderContext> {
        match &self.purpose {
            Purpose::Parse { .. } => None,
            Purpose::Compile { context, .. } => Some(context),
        }
    }

    pub(super) fn target(&self) -> &Target {
        self.context().and_then(|context| context.target.as_ref()).unwrap_or(&self.known.target)
    }

    /// The package of what is rendered.
    pub(super) fn own_package(&self) -> &str {
        if self.subject.facts.package.is_empty() { &self.known.project } else { &self.subject.facts.package }
    }

    pub(super) fn is_incremental(&self) -> bool {
        self.found().asked_incremental = true;
        match &self.purpose {
            Purpose::Parse { incremental } => *incremental,
            Purpose::Compile { context, .. } => context.incremental && !context.full_refresh,
        }
    }

    /// `ref`: the relation, or why there is none.
    pub(super) fn reference(&self, call: RefCall) -> Result<(NodeId, Relation), String> {
        let known = &self.known;
        let id = match known.find(&call) {
            Some(id) => id,
            None if self.executes() => {
                let names = known.models.keys().chain(&known.seeds).map(String::as_str);
                let hint = nearest(&call.name, names).map(|near| format!("; did you mean `{near}`?"));
                let hint = hint.unwrap_or_default();
                return Err(format!("no model, seed or snapshot of that name, ref=`{call}`{hint}"));
            }
            None => NodeId::Model(call.name.clone()),
        };
        let mut found = self.found();
        if !found.uses.refs.contains(&call) {
            found.uses.refs.push(call);
        }
        drop(found);
        self.relation(&id).map(|relation| (id, relation))
    }

    /// `source`: the relation, or why there is none.
    pub(super) fn source(&self, name: SourceName) -> Result<(NodeId, Relation), String> {
        if self.executes() && !self.known.sources.contains(&name) {
            return Err(self.no_source(&name));
        }
        let id = NodeId::Source(name.clone());
        let mut found = self.found();
        if !found.uses.sources.contains(&name) {
            found.uses.sources.push(name);
        }
        drop(found);
        self.relation(&id).map(|relation| (id, relation))
    }

    fn no_source(&self, name: &SourceName) -> String {
        let names: Vec<String> = self.known.sources.iter().map(ToString::to_string).collect();
        let near = nearest(&name.to_string(), names.iter().map(String::as_str)).map(ToOwned::to_owned);
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        format!("no source of that name, source=`{name}`{hint}")
    }

    /// W of a source in microseconds; `None` when it has none yet.
    pub(super) fn watermark(&self, name: SourceName) -> Result<Option<i64>, String> {
        if self.executes() && !self.known.sources.contains(&name) {
            return Err(self.no_source(&name));
        }
        let watermark = self.context().and_then(|context| context.watermarks.get(&name)).copied();
        let mut found = self.found();
        if !found.uses.watermarks.contains(&name) {
            found.uses.watermarks.push(name);
        }
        Ok(watermark)
    }

    pub(super) fn relation(&self, id: &NodeId) -> Result<Relation, String> {
        match &self.purpose {
            Purpose::Parse { .. } => {
                let name = id.name();
                Ok(Relation { sql: super::quote(&name), schema: self.target().schema.clone(), identifier: name })
            }
            Purpose::Compile { relations, .. } => {
                relations.relation(id).ok_or_else(|| format!("nothing to read from, node=`{id}`"))
            }
        }
    }

    /// Where queries and questions about tables go; `None` while a template is parsed.
    pub(super) fn relations(&self) -> Option<&SharedRelations> {
        match &self.purpose {
            Purpose::Parse { .. } => None,
            Purpose::Compile { relations, .. } => Some(relations),
        }
    }

    /// The answer of a query; `None` while a template is parsed.
    pub(super) fn query(&self, sql: &str) -> Result<Option<TableRows>, String> {
        // On the way to a fault the text carries marks.
        let sql = super::marks::unmark(sql).text;
        self.relations().map(|relations| relations.query(&sql)).transpose()
    }

    /// `this`.
    pub(super) fn this(&self) -> Relation {
        if let Some(this) = self.context().and_then(|context| context.this.clone()) {
            return this;
        }
        let facts = &self.subject.facts;
        let schema = facts.schema.clone().unwrap_or_else(|| self.target().schema.clone());
        let identifier = facts.alias.clone().unwrap_or_else(|| self.subject.id.name());
        let plain =
            || Relation { sql: format!("{}.{}", super::quote(&schema), super::quote(&identifier)), schema, identifier };
        match &self.purpose {
            Purpose::Parse { .. } => plain(),
            Purpose::Compile { relations, .. } => relations.relation(&self.subject.id).unwrap_or_else(plain),
        }
    }

    pub(super) fn note_var(&self, name: &str) {
        let mut found = self.found();
        if !found.uses.vars.iter().any(|known| known == name) {
            found.uses.vars.push(name.to_owned());
        }
    }

    /// `config(...)`: later calls win, key by key.
    pub(super) fn note_config(&self, entries: Map<String, Json>) {
        self.found().uses.config.extend(entries);
    }

    /// `config.get`: what the file has said so far over what was merged before.
    pub(super) fn config(&self, key: &str) -> Option<Json> {
        let own = self.found().uses.config.get(key).cloned();
        if self.executes() { self.subject.facts.config.get(key).cloned().or(own) } else { own }
    }

    pub(super) fn set_returned(&self, value: Value) {
        self.found().returned = Some(value);
    }

    pub(super) fn take_returned(&self) -> Option<Value> {
        self.found().returned.take()
    }

    pub(super) fn register_macro(&self, package: &str, name: &str, value: Value) {
        self.found().macros.insert((package.to_owned(), name.to_owned()), value);
    }

    /// A macro of one package.
    pub(super) fn macro_of(&self, package: &str, name: &str) -> Option<Value> {
        self.found().macros.get(&(package.to_owned(), name.to_owned())).cloned()
    }

    /// A macro as it is called without a package: that of the calling package, of the project, or a shipped one.
    pub(super) fn macro_named(&self, name: &str) -> Option<Value> {
        let calling = self.found().running.last().cloned().unwrap_or_else(|| self.own_package().to_owned());
        [calling.as_str(), self.known.project.as_str()]
            .into_iter()
            .chain(SHIPPED_PACKAGES)
            .find_map(|package| self.macro_of(package, name))
    }

    /// Whether so many macros and variables are under way that they can only lead to each other.
    pub(super) fn is_deep(&self) -> bool {
        self.found().running.len() > MAX_DEPTH
    }

    /// Runs `call` as code of a package.
    pub(super) fn inside<T>(&self, package: &str, call: impl FnOnce() -> T) -> T {
        self.found().running.push(package.to_owned());
        let result = call();
        self.found().running.pop();
        result
    }

    pub(super) fn keep_result(&self, name: &str, table: Value) {
        self.found().results.insert(name.to_owned(), table);
    }

    pub(super) fn result(&self, name: &str) -> Option<Value> {
        self.found().results.get(name).cloned()
    }
}
