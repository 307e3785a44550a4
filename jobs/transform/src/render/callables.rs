//! Macros as values: wrapped where they are defined, looked up where they are called.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, Value, from_args};
use minijinja::{Error, ErrorKind, State};

use super::constant::constant;
use super::context::function;
use super::session::Session;
use super::{macros, mutable};

pub(super) fn wrap_macro(session: &Arc<Session>, args: &[Value]) -> Result<Value, Error> {
    let (package, name, inner, open): (&str, &str, Value, Option<Value>) = from_args(args)?;
    let open = match open {
        Some(open) => Some(Open {
            parameters: open.get_item_by_index(0)?.try_iter()?.map(|name| name.to_string()).collect(),
            varargs: open.get_item_by_index(1)?.is_true(),
            kwargs: open.get_item_by_index(2)?.is_true(),
        }),
        None => None,
    };
    if let Some(constant) = constant(session, name) {
        session.register_macro(package, name, constant);
        return Ok(Value::from(""));
    }
    let wrapped =
        Macro { package: package.to_owned(), name: name.to_owned(), inner, open, session: Arc::clone(session) };
    session.register_macro(package, name, Value::from_object(wrapped));
    Ok(Value::from(""))
}

/// A macro with dbt's `return` and a frame in the stack of an error.
#[derive(Debug)]
struct Macro {
    package: String,
    name: String,
    inner: Value,
    open: Option<Open>,
    session: Arc<Session>,
}

/// The parameters of a macro that takes more than it names.
#[derive(Debug)]
struct Open {
    parameters: Vec<String>,
    varargs: bool,
    kwargs: bool,
}

impl Open {
    /// Hands what is beyond the parameters over as the lists and mappings that the macro reads.
    fn arrange(&self, args: &[Value]) -> Result<Vec<Value>, Error> {
        let (mut given, named) = match args.split_last() {
            Some((last, rest)) if last.is_kwargs() => (rest.to_vec(), Some(Kwargs::try_from(last.clone())?)),
            _ => (args.to_vec(), None),
        };
        let mut passed: Vec<(String, Value)> = Vec::new();
        if self.varargs {
            let rest =
                if given.len() > self.parameters.len() { given.split_off(self.parameters.len()) } else { Vec::new() };
            passed.push(("varargs".to_owned(), Value::from(rest)));
        }
        let mut rest = Vec::new();
        if let Some(named) = named {
            for key in named.args() {
                let value: Value = named.peek(key)?;
                let known = !self.kwargs || key == "caller" || self.parameters.iter().any(|name| name == key);
                if known { passed.push((key.to_owned(), value)) } else { rest.push((key.to_owned(), value)) }
            }
        }
        if self.kwargs {
            passed.push(("kwargs".to_owned(), mutable::dict(&Value::from_pairs(rest))?));
        }
        given.push(Value::from(passed.into_iter().collect::<Kwargs>()));
        Ok(given)
    }
}

impl Object for Macro {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let arranged = self.open.as_ref().map(|open| open.arrange(args)).transpose()?;
        let args = arranged.as_deref().unwrap_or(args);
        match self.session.inside(&self.package, || self.inner.call(state, args)) {
            Ok(value) => Ok(value),
            Err(error) => match self.session.take_returned() {
                Some(value) => Ok(value),
                None => {
                    Err(Error::new(ErrorKind::InvalidOperation, format!("in macro `{}`", self.name)).with_source(error))
                }
            },
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<macro {}>", self.name)
    }
}

/// A macro's name: which macro it is shows when it is called.
#[derive(Debug)]
struct MacroRef {
    package: Option<String>,
    name: String,
    session: Arc<Session>,
}

pub(super) fn macro_ref(session: &Arc<Session>, package: Option<&str>, name: &str) -> Value {
    Value::from_object(MacroRef {
        package: package.map(str::to_owned),
        name: name.to_owned(),
        session: Arc::clone(session),
    })
}

impl Object for MacroRef {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let found = match &self.package {
            Some(package) => self.session.macro_of(package, &self.name),
            None => self.session.macro_named(&self.name),
        };
        match found {
            Some(found) => found.call(state, args),
            None => Err(Error::new(ErrorKind::UnknownFunction, format!("{} is unknown", self.name))),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<macro {}>", self.name)
    }
}

/// `dbt_utils.star(...)`, `my_project.my_macro(...)`.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) session: Arc<Session>,
}

impl Package {
    fn find(&self, name: &str) -> Option<Value> {
        let session = &self.session;
        if let Some(found) = session.macro_of(&self.name, name) {
            return Some(found);
        }
        if !macros::SHIPPED_PACKAGES.contains(&self.name.as_str()) {
            return None;
        }
        // dbt keeps some of its functions in its own package, too; ours share one. And what is a function here is a macro
        // of that package there: `dbt.is_incremental()`.
        let shared = macros::SHIPPED_PACKAGES.iter().find_map(|package| session.macro_of(package, name));
        shared.or_else(|| function(session, name).filter(|_| self.name == "dbt"))
    }
}

impl Object for Package {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.find(key.as_str()?)
    }

    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match self.find(method) {
            Some(found) => found.call(state, args),
            None => Err(Error::new(ErrorKind::UnknownFunction, format!("{}.{method} is unknown", self.name))),
        }
    }
}
