//! From a template's error to a fault with file, line, model and macro stack.

use std::error::Error as _;
use std::path::Path;

use minijinja::ErrorKind;
use tidemill_project::error::nearest;
use tidemill_project::{Fault, Location};

use super::macros::Macros;
use super::scan::is_word;
use super::translate::Translated;
use crate::error::codes;

/// Functions that templates may call beside macros; for suggestions.
const FUNCTIONS: [&str; 14] = [
    "ref",
    "source",
    "config",
    "var",
    "env_var",
    "is_incremental",
    "watermark",
    "as_of",
    "log",
    "return",
    "tojson",
    "fromjson",
    "range",
    "namespace",
];

/// How our Jinja engine begins when a method is called on a name without value.
const NO_OWNER: &str = "undefined has no method named ";

/// One template as it was rendered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    /// Who is rendered; empty for a macro file.
    pub(super) subject: &'a str,
    /// The user's file.
    pub(super) path: &'a Path,
    /// The user's text.
    pub(super) text: &'a str,
    /// What was rendered in its place, behind so many bytes of our own.
    pub(super) rendered: Option<(&'a Translated, usize)>,
}

impl<'a> Origin<'a> {
    pub(super) fn new(subject: &'a str, path: &'a Path, text: &'a str) -> Self {
        Self { subject, path, text, rendered: None }
    }
}

/// Explains an error. The innermost frame is where it happened; those further out become the hint.
pub(super) fn explain(macros: &Macros, origin: Origin<'_>, error: &minijinja::Error) -> Fault {
    let mut frames = vec![error];
    while let Some(inner) = frames[frames.len() - 1].source().and_then(|inner| inner.downcast_ref::<minijinja::Error>())
    {
        frames.push(inner);
    }
    let innermost = frames[frames.len() - 1];
    let mut places: Vec<(Location, Option<String>)> = Vec::new();
    for frame in frames.iter().rev() {
        let Some(place) = place(macros, origin, frame) else { continue };
        if places.last() != Some(&place) {
            places.push(place);
        }
    }

    let (message, suggestion) = describe(macros, innermost);
    let message = if origin.subject.is_empty() { message } else { format!("{message}, in=`{}`", origin.subject) };
    let mut fault = Fault::new(message).code(codes::TEMPLATE);
    let mut hints: Vec<String> = suggestion.into_iter().collect();
    let mut places = places.into_iter();
    match places.next() {
        Some((location, inside)) => {
            fault = fault.at(location);
            if let Some(name) = inside {
                let callers = places.map(|(at, inside)| match inside {
                    Some(inside) => format!("called by macro `{inside}` at {at}"),
                    None => format!("called at {at}"),
                });
                let stack: Vec<String> = std::iter::once(format!("in macro `{name}`")).chain(callers).collect();
                hints.push(stack.join(", "));
            }
        }
        None => fault = fault.at(Location::new(origin.path, 1, 1)),
    }
    if hints.is_empty() { fault } else { fault.hint(hints.join("; ")) }
}

fn place(macros: &Macros, origin: Origin<'_>, frame: &minijinja::Error) -> Option<(Location, Option<String>)> {
    let line = frame.line()?;
    if let Some((location, inside)) = frame.name().and_then(|name| macros.place(name, line)) {
        return Some((location, inside.map(ToOwned::to_owned)));
    }
    let column = frame.range().and_then(|range| {
        let start = match origin.rendered {
            Some((translated, prefix_bytes)) => translated.original(range.start.checked_sub(prefix_bytes)?),
            None => range.start,
        };
        let before = origin.text.get(..start)?;
        Some(before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
    });
    Some((Location::new(origin.path, line, column.unwrap_or(1)), None))
}

fn describe(macros: &Macros, error: &minijinja::Error) -> (String, Option<String>) {
    let detail = error.detail().map(ToOwned::to_owned).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownFunction => unknown(macros, detail.strip_suffix(" is unknown").unwrap_or(&detail)),
        // A macro closes over names that nothing has given a value yet.
        ErrorKind::InvalidOperation if detail.starts_with("value of type undefined is not callable") => {
            match called(macros, error) {
                Some(name) => unknown(macros, name),
                None => (detail, None),
            }
        }
        // Our own functions say all in the detail; a hint follows after a semicolon.
        ErrorKind::InvalidOperation if !detail.is_empty() => match detail.split_once("; ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (detail, None),
        },
        ErrorKind::UnknownMethod if detail.starts_with(NO_OWNER) => {
            let method = detail[NO_OWNER.len()..].split(' ').next().unwrap_or_default();
            let owner = detail.split('`').nth(1).or_else(|| called(macros, error)?.split('.').next());
            let owner = owner.unwrap_or("undefined");
            let hint = "a package is installed into `dbt_packages`, or its folder named in packages.yml: `local: …`";
            (
                format!("there is no package or variable of that name, name=`{owner}`, call=`{owner}.{method}`"),
                Some(hint.to_owned()),
            )
        }
        // The detail says that something is undefined, and what.
        ErrorKind::UndefinedError if !detail.is_empty() => (detail, None),
        kind if detail.is_empty() => (kind.to_string(), None),
        kind => (format!("{kind}: {detail}"), None),
    }
}

fn unknown(macros: &Macros, name: &str) -> (String, Option<String>) {
    let hint = nearest(name, macros.names().chain(FUNCTIONS)).map(|near| format!("did you mean `{near}`?"));
    (format!("macro is not known, name=`{name}`"), hint)
}

/// The name that a macro file calls where an error happened.
fn called<'a>(macros: &'a Macros, error: &minijinja::Error) -> Option<&'a str> {
    let text = macros.text_of(error.name()?)?.get(error.range()?)?;
    let name = text.split('(').next()?.trim();
    (!name.is_empty() && name.chars().all(|letter| is_word(letter) || letter == '.')).then_some(name)
}
