//! What a macro takes, read from its definition.

/// One parameter of a macro.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) has_default: bool,
}

/// The parameters of the last macro of that name in a text, which is the one that counts; `None` when there is none.
pub(super) fn parameters(text: &str, name: &str) -> Option<Vec<Parameter>> {
    let mut found = None;
    for (at, _) in text.match_indices("macro ") {
        let rest = text[at + "macro ".len()..].trim_start();
        let Some(after) = rest.strip_prefix(name) else { continue };
        if let Some(list) = after.trim_start().strip_prefix('(') {
            found = Some(list);
        }
    }
    Some(split(found?))
}

/// Cuts `a, b=[1, 2], c="x, y")…` at the commas that separate.
fn split(list: &str) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    let mut current = String::new();
    let mut depth = 0;
    let mut quote: Option<char> = None;
    let mut finish = |current: &mut String| {
        let (name, has_default) = match current.split_once('=') {
            Some((name, _)) => (name.trim(), true),
            None => (current.trim(), false),
        };
        if !name.is_empty() {
            parameters.push(Parameter { name: name.to_owned(), has_default });
        }
        current.clear();
    };
    for letter in list.chars() {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')') if depth == 0 => break,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                finish(&mut current);
                continue;
            }
            _ => {}
        }
        current.push(letter);
    }
    finish(&mut current);
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_may_hold_commas_and_brackets() {
        let text = "{% macro other(x) %}{% endmacro %}{%- macro  test_a( model, values=[1, (2)], quote=\"a, b)\",\n last ) -%}";
        let found = parameters(text, "test_a").unwrap();
        let told: Vec<String> =
            found.iter().map(|one| format!("{}{}", one.name, if one.has_default { "=" } else { "" })).collect();
        assert_eq!(told, ["model", "values=", "quote=", "last"]);
        assert_eq!(parameters(text, "test"), None);
        assert_eq!(parameters("{% macro empty() %}", "empty"), Some(Vec::new()));
    }
}
