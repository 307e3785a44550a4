//! The state of one render, shared by all functions that its template calls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::value::Value;
use serde_json::{Map, Value as Json};
use tidemill_project::SourceName;
use tidemill_project::error::nearest;

use super::{Relation, RenderContext, SharedRelations};
use crate::project::{EnvVars, NodeId, RefCall, Target, Uses};

/// What a project knows before any render, shared by all.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) project: String,
    pub(super) vars: Map<String, Json>,
    pub(super) env: EnvVars,
    pub(super) target: Target,
    pub(super) models: BTreeMap<String, ModelFacts>,
    pub(super) seeds: Vec<String>,
    pub(super) sources: Vec<SourceName>,
}

/// What templates may ask about a node.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelFacts {
    pub(super) schema: Option<String>,
    pub(super) alias: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) config: Map<String, Json>,
    /// Relative to the project.
    pub(super) path: PathBuf,
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
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    uses: Uses,
    asked_incremental: bool,
    /// The value of a `return` on its way to the macro's caller.
    returned: Option<Value>,
    macros: BTreeMap<String, Value>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("subject", &self.subject.id).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(known: &Arc<Known>, subject: Subject, purpose: Purpose) -> Arc<Self> {
        Arc::new(Self { known: Arc::clone(known), subject, purpose, found: Mutex::default() })
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
        let id = if known.models.contains_key(&call.name) {
            NodeId::Model(call.name.clone())
        } else if known.seeds.contains(&call.name) {
            NodeId::Seed(call.name.clone())
        } else if self.executes() {
            let names = known.models.keys().chain(&known.seeds).map(String::as_str);
            let hint = nearest(&call.name, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(format!("no model or seed of that name, ref=`{}`{hint}", call.name));
        } else {
            NodeId::Model(call.name.clone())
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

    pub(super) fn columns(&self, id: &NodeId) -> Vec<String> {
        match &self.purpose {
            Purpose::Parse { .. } => Vec::new(),
            Purpose::Compile { relations, .. } => relations.columns(id),
        }
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

    pub(super) fn register_macro(&self, name: &str, value: Value) {
        self.found().macros.insert(name.to_owned(), value);
    }

    pub(super) fn macro_named(&self, name: &str) -> Option<Value> {
        self.found().macros.get(name).cloned()
    }
}
