//! Lists and mappings that templates can change, as Python's can.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use serde_json::{Map, Value as Json};

use super::values::from_data;

/// A list.
#[derive(Debug, Default)]
pub(super) struct List(Mutex<Vec<Value>>);

/// A mapping, in the order of insertion.
#[derive(Debug, Default)]
pub(super) struct Dict(Mutex<IndexMap<Value, Value>>);

/// A changeable copy of a sequence; anything else stays as it is.
pub(super) fn list(value: &Value) -> Result<Value, Error> {
    Ok(Value::from_object(List(Mutex::new(value.try_iter()?.collect()))))
}

/// A changeable copy of a mapping.
pub(super) fn dict(value: &Value) -> Result<Value, Error> {
    let mut entries = IndexMap::new();
    for key in value.try_iter()? {
        let item = value.get_item(&key)?;
        entries.insert(key, item);
    }
    Ok(Value::from_object(Dict(Mutex::new(entries))))
}

/// Data as changeable lists and mappings, all the way down.
pub(super) fn from_json(data: &Json) -> Value {
    match data {
        Json::Array(items) => Value::from_object(List(Mutex::new(items.iter().map(from_json).collect()))),
        Json::Object(entries) => from_entries(entries),
        scalar => from_data(scalar),
    }
}

/// The same of a mapping's entries.
pub(super) fn from_entries(entries: &Map<String, Json>) -> Value {
    let entries = entries.iter().map(|(key, item)| (Value::from(key.as_str()), from_json(item))).collect();
    Value::from_object(Dict(Mutex::new(entries)))
}

fn none() -> Value {
    // What Python's changing methods return; it prints as nothing here, since `{{ names.append(x) }}` is a common slip.
    Value::from("")
}

fn index_of(index: i64, len: usize) -> Option<usize> {
    let len_signed = i64::try_from(len).ok()?;
    usize::try_from(if index < 0 { index + len_signed } else { index }).ok().filter(|index| *index < len)
}

impl List {
    fn items(&self) -> MutexGuard<'_, Vec<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let items = self.items();
        items.get(index_of(key.as_i64()?, items.len())?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items().clone())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items().len())
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "append" => {
                let (item,): (Value,) = from_args(args)?;
                self.items().push(item);
            }
            "extend" => {
                let (more,): (Value,) = from_args(args)?;
                let more: Vec<Value> = more.try_iter()?.collect();
                self.items().extend(more);
            }
            "insert" => {
                let (at, item): (usize, Value) = from_args(args)?;
                let mut items = self.items();
                let at = at.min(items.len());
                items.insert(at, item);
            }
            "pop" => {
                let (at,): (Option<i64>,) = from_args(args)?;
                let mut items = self.items();
                let index = index_of(at.unwrap_or(-1), items.len());
                return index.map(|index| items.remove(index)).ok_or_else(|| fail("nothing to take out of the list"));
            }
            "remove" => {
                let (wanted,): (Value,) = from_args(args)?;
                let mut items = self.items();
                let index = items.iter().position(|item| *item == wanted);
                items.remove(index.ok_or_else(|| fail("item is not in the list"))?);
            }
            "clear" => self.items().clear(),
            "reverse" => self.items().reverse(),
            "sort" => {
                let (named,): (Kwargs,) = from_args(args)?;
                let reverse: Option<bool> = named.get("reverse")?;
                let mut items = self.items();
                items.sort();
                if reverse == Some(true) {
                    items.reverse();
                }
            }
            "copy" => return Ok(Value::from_object(List(Mutex::new(self.items().clone())))),
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        }
        Ok(none())
    }
}

impl Dict {
    fn entries(&self) -> MutexGuard<'_, IndexMap<Value, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.entries().get(key).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries().keys().cloned().collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.entries().len())
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "update" => {
                let (more, named): (Option<Value>, Kwargs) = from_args(args)?;
                let mut added = Vec::new();
                if let Some(more) = more {
                    for key in more.try_iter()? {
                        if more.kind() == ValueKind::Map {
                            let item = more.get_item(&key)?;
                            added.push((key, item));
                        } else {
                            added.push((key.get_item_by_index(0)?, key.get_item_by_index(1)?));
                        }
                    }
                }
                for key in named.args() {
                    added.push((Value::from(key), named.peek(key)?));
                }
                self.entries().extend(added);
            }
            "setdefault" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                let default = default.unwrap_or_else(|| Value::from(()));
                return Ok(self.entries().entry(key).or_insert(default).clone());
            }
            "pop" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                let found = self.entries().shift_remove(&key).or(default);
                return found.ok_or_else(|| fail("key is not in the mapping"));
            }
            "clear" => self.entries().clear(),
            "copy" => return Ok(Value::from_object(Dict(Mutex::new(self.entries().clone())))),
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        }
        Ok(none())
    }
}

fn fail(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;

    use super::*;
    use crate::render::pycompat;
    use crate::render::translate::translate;

    fn render(template: &str) -> String {
        let mut env = Environment::new();
        env.add_function("__list", |value: Value| list(&value));
        env.add_function("__dict", |value: Value| dict(&value));
        env.set_unknown_method_callback(pycompat::call_method);
        env.render_str(&translate(template).text, ()).unwrap()
    }

    #[test]
    fn lists_change_in_place() {
        let text = "{% set x = [] %}{% for i in range(3) %}{% do x.append(i) %}{% endfor %}{% do x.extend(['b']) %}\
            {{ x }} {{ x[-1] }} {{ x | length }} {{ x.pop() }} {{ (x + [9]) | join('-') }} {{ 'y' if [] else 'n' }} \
            {{ 2 in x }} {{ x == [0, 1, 2] }} {{ x[1:] | list }}";
        assert_eq!(render(text), "[0, 1, 2, 'b'] b 4 b 0-1-2-9 n True True [1, 2]");
    }

    #[test]
    fn mappings_change_in_place() {
        let text = "{% set x = {'a': []} %}{% do x.update({'b': 2}) %}{% do x['a'].append(1) %}\
            {{ x }} {{ x.keys() | list }} {{ x.get('c', 'none') }} {% for k, v in x.items() %}{{ k }}={{ v }};{% endfor %} \
            {{ x.pop('b') }} {{ x.b is defined }} {{ x.a }}";
        assert_eq!(render(text), "{'a': [1], 'b': 2} ['a', 'b'] none a=[1];b=2; 2 False [1]");
    }
}
