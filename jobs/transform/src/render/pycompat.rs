//! The methods of Python's texts, mappings and lists that dbt projects call.

use minijinja::value::{Rest, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Called for each method that a value does not have by itself.
pub(super) fn call_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => text_method(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map => map_method(state, value, method, args),
        ValueKind::Seq | ValueKind::Iterable => list_method(value, method, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn text_method(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(match method {
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "title" => Value::from(title(text)),
        "capitalize" => {
            let mut letters = text.chars();
            let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
            Value::from(first + &letters.as_str().to_lowercase())
        }
        "strip" | "lstrip" | "rstrip" => {
            let (set,): (Option<&str>,) = from_args(args)?;
            let drop = |letter: char| set.map_or_else(|| letter.is_whitespace(), |set| set.contains(letter));
            Value::from(match method {
                "lstrip" => text.trim_start_matches(drop),
                "rstrip" => text.trim_end_matches(drop),
                _ => text.trim_matches(drop),
            })
        }
        "split" => {
            let (separator, limit): (Option<&str>, Option<usize>) = from_args(args)?;
            match (separator, limit) {
                (None, _) => text.split_whitespace().map(Value::from).collect(),
                (Some(separator), None) => text.split(separator).map(Value::from).collect(),
                (Some(separator), Some(limit)) => text.splitn(limit + 1, separator).map(Value::from).collect(),
            }
        }
        "splitlines" => text.lines().map(Value::from).collect(),
        "replace" => {
            let (from, to): (&str, &str) = from_args(args)?;
            Value::from(text.replace(from, to))
        }
        "startswith" => Value::from(text.starts_with(from_args::<(&str,)>(args)?.0)),
        "endswith" => Value::from(text.ends_with(from_args::<(&str,)>(args)?.0)),
        "find" => {
            let (needle,): (&str,) = from_args(args)?;
            let found = text.find(needle).map(|byte| text[..byte].chars().count());
            found.map_or_else(|| Value::from(-1), Value::from)
        }
        "count" => Value::from(text.matches(from_args::<(&str,)>(args)?.0).count()),
        "isdigit" => Value::from(!text.is_empty() && text.chars().all(|letter| letter.is_ascii_digit())),
        "join" => {
            let (items,): (Value,) = from_args(args)?;
            let parts: Vec<String> = items.try_iter()?.map(|item| item.to_string()).collect();
            Value::from(parts.join(text))
        }
        "format" => {
            let (items,): (Rest<Value>,) = from_args(args)?;
            let mut filled = text.to_owned();
            for item in &items.0 {
                filled = filled.replacen("{}", &item.to_string(), 1);
            }
            Value::from(filled)
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn title(text: &str) -> String {
    let mut begins = true;
    text.chars()
        .flat_map(|letter| {
            let cased: Vec<char> =
                if begins { letter.to_uppercase().collect() } else { letter.to_lowercase().collect() };
            begins = !letter.is_alphanumeric();
            cased
        })
        .collect()
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
            format!("lists cannot be changed in place, method=`{method}`; write {{% set items = items + [item] %}}"),
        )),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}
