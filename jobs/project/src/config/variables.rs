//! `${VAR}`, `${VAR:-default}` and `file:` in the texts of `tidemill.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::document::{Data, Node, Reader, Scalar, ScalarKind, codes};
use crate::error::nearest;
use crate::secret::Secret;

/// Puts the environment's values where a node's texts ask for them. A variable that is not set is a fault.
pub(super) fn resolve(reader: &mut Reader<'_>, env: &BTreeMap<String, String>, node: &mut Node) {
    node.for_each_scalar(&mut |node| {
        let Data::Scalar(Scalar { kind: ScalarKind::Text, text, .. }) = &node.data else { return };
        if !text.contains("${") {
            return;
        }
        let resolved = expand(text, |name| env.get(name).filter(|value| !value.is_empty()).map(String::as_str));
        *node = match resolved {
            Ok(resolved) => {
                let scalar = Scalar { kind: ScalarKind::Text, text: resolved, spelled: Some(text.clone()) };
                Node { place: node.place, data: Data::Scalar(scalar) }
            }
            Err(ExpandError::Missing(name)) => {
                let hint = match nearest(&name, env.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`? or give a default: ${{{name}:-value}}"),
                    None => format!("export {name}, or give a default: ${{{name}:-value}}"),
                };
                let message = format!("environment variable is not set, variable=`{name}`");
                reader.fault_hint(node.place, codes::MISSING_VARIABLE, message, hint);
                Node::scalar(node.place, ScalarKind::Unresolved, text.clone())
            }
            Err(ExpandError::Unclosed) => {
                reader.fault_hint(
                    node.place,
                    codes::BAD_VALUE,
                    "variable is not closed or has no name",
                    "write ${VAR} or ${VAR:-default}; a literal ${ is written $${",
                );
                Node::scalar(node.place, ScalarKind::Unresolved, text.clone())
            }
        };
    });
}

/// Marks the texts that ask for variables: those of a target that was not chosen, whose variables nobody has to set.
pub(super) fn leave_open(node: &mut Node) {
    node.for_each_scalar(&mut |node| {
        if let Data::Scalar(Scalar { kind: kind @ ScalarKind::Text, text, .. }) = &mut node.data
            && text.contains("${")
        {
            *kind = ScalarKind::Unresolved;
        }
    });
}

#[derive(Debug, PartialEq, Eq)]
enum ExpandError {
    Missing(String),
    Unclosed,
}

/// Replaces variables from left to right; values are not looked into again.
fn expand<'v>(text: &str, value_of: impl Fn(&str) -> Option<&'v str>) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if let Some(before) = rest[..start].strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        expanded.push_str(&rest[..start]);
        let (inside, after) = rest[start + 2..].split_once('}').ok_or(ExpandError::Unclosed)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
            return Err(ExpandError::Unclosed);
        }
        expanded.push_str(value_of(name).or(default).ok_or_else(|| ExpandError::Missing(name.to_owned()))?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// A secret: the text itself, or the text of the file that `file:` names, without the blanks around it.
pub(super) fn read_secret(reader: &mut Reader<'_>, project_dir: &Path, key: &str, node: &Node) -> Option<Secret> {
    let text = reader.spelling(key, node)?;
    let Some(path) = text.strip_prefix("file:") else { return Some(Secret::new(text)) };
    let path = project_dir.join(path);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(Secret::new(text.trim())),
        Err(error) => {
            let message = format!("secret's file is not readable, key=`{key}`, path=`{}`", path.display());
            reader.fault_hint(node.place, codes::BAD_VALUE, message, error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(name: &str) -> Option<&'static str> {
        (name == "HOST").then_some("db")
    }

    #[test]
    fn variables_are_replaced_once() {
        assert_eq!(expand("a ${HOST}:${PORT:-99} b", known).as_deref(), Ok("a db:99 b"));
        assert_eq!(expand("${HOST:-x}${EMPTY:-}", known).as_deref(), Ok("db"));
        assert_eq!(expand("$${HOST} $1 $", known).as_deref(), Ok("${HOST} $1 $"));
        assert_eq!(expand("${NESTED}", |_| Some("${HOST}")).as_deref(), Ok("${HOST}"));
    }

    #[test]
    fn what_cannot_be_replaced_says_so() {
        assert_eq!(expand("${PORT}", known), Err(ExpandError::Missing("PORT".to_owned())));
        assert_eq!(expand("${HOST", known), Err(ExpandError::Unclosed));
        assert_eq!(expand("${}", known), Err(ExpandError::Unclosed));
        assert_eq!(expand("${a b}", known), Err(ExpandError::Unclosed));
    }

    proptest! {
        #[test]
        fn texts_without_variables_stay_as_they_are(text in "[^$]*") {
            prop_assert_eq!(expand(&text, known), Ok(text));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[${}:A-Zé-]{0,20}") {
            let _ = expand(&text, known);
        }
    }
}
