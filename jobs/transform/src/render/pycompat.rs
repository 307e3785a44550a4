//! The methods of Python's texts, mappings and lists that dbt projects call, and filters as Jinja has them there.

use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, filters};

/// Adds the filters that answer otherwise in Python, and those that dbt adds to Jinja's.
pub(super) fn add_filters(env: &mut Environment<'_>) {
    env.add_filter("int", |state: &State, value: &Value, default: Option<Value>, base: Option<u32>, named: Kwargs| {
        let own = default.clone();
        or_default(default, &named, Value::from(0), |named| filters::int(state, value, own, base, named))
    });
    env.add_filter("float", |state: &State, value: &Value, default: Option<Value>, named: Kwargs| {
        let own = default.clone();
        or_default(default, &named, Value::from(0.0), |named| filters::float(state, value, own, named))
    });
    for filter in ["as_number", "as_native", "as_bool", "as_text"] {
        env.add_filter(filter, |value: Value| value);
    }
}

/// What cannot be converted is the default, not a fault.
fn or_default(
    default: Option<Value>,
    named: &Kwargs,
    zero: Value,
    convert: impl FnOnce(Kwargs) -> Result<Value, Error>,
) -> Result<Value, Error> {
    let given: Option<Value> = named.get("default")?;
    convert(named.clone()).or_else(|_| Ok(default.or(given).unwrap_or(zero)))
}

/// Called for each method that a value does not have by itself.
pub(super) fn call_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => text_method(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map => map_method(state, value, method, args),
        ValueKind::Seq | ValueKind::Iterable => list_method(value, method, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    };
    match own {
        Err(error) if error.kind() == ErrorKind::UnknownMethod => {
            minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
        }
        answered => answered,
    }
}

fn text_method(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(match method {
        "split" => {
            let (separator, limit): (Option<&str>, Option<usize>) = from_args(args)?;
            match (separator, limit) {
                (None, _) => text.split_whitespace().map(Value::from).collect(),
                (Some(separator), None) => text.split(separator).map(Value::from).collect(),
                (Some(separator), Some(limit)) => text.splitn(limit + 1, separator).map(Value::from).collect(),
            }
        }
        "join" => {
            let (items,): (Value,) = from_args(args)?;
            let parts: Vec<String> = items.try_iter()?.map(|item| item.to_string()).collect();
            Value::from(parts.join(text))
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn map_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "items" => state.apply_filter("items", std::slice::from_ref(value)),
        "keys" => Ok(value.try_iter()?.collect()),
        "values" => {
            let keys: Vec<Value> = value.try_iter()?.collect();
            keys.iter().map(|key| value.get_item(key)).collect::<Result<Vec<_>, _>>().map(Value::from)
        }
        "get" => {
            let (key, default): (Value, Option<Value>) = from_args(args)?;
            let found = value.get_item(&key)?;
            Ok(if found.is_undefined() { default.unwrap_or_else(|| Value::from(())) } else { found })
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn list_method(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "count" => {
            let (wanted,): (Value,) = from_args(args)?;
            Ok(Value::from(value.try_iter()?.filter(|item| *item == wanted).count()))
        }
        "index" => {
            let (wanted,): (Value,) = from_args(args)?;
            value
                .try_iter()?
                .position(|item| item == wanted)
                .map(Value::from)
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "item is not in the list"))
        }
        "append" | "extend" => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!(
                "this list cannot be changed in place, method=`{method}`; write {{% set items = items + [item] %}}"
            ),
        )),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}
