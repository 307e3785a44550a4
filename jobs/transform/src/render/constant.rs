//! Macros that a unit test replaces by their answer.

use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{Error, State};
use serde_json::Value as Json;

use super::session::Session;
use super::values::from_data;

/// Answers every call with one value.
#[derive(Debug)]
struct Constant(Json);

impl Object for Constant {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, _args: &[Value]) -> Result<Value, Error> {
        Ok(from_data(&self.0))
    }
}

/// The constant that a macro or function of this name is in this render; `None` when it is itself.
pub(super) fn constant(session: &Session, name: &str) -> Option<Value> {
    let value = session.context()?.macros.get(name)?;
    Some(Value::from_object(Constant(value.clone())))
}
