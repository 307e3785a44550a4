//! Errors as text: each cause once, the place in the user's file, the way out.

use std::fmt::Write;

use tidemill_project::{Diagnostic, ErrorCode, ErrorKind, Fault, Location};

use crate::exit::Exit;

/// Looks for the first error of the chain that a room made, and calls `with` on it.
fn diagnostic<T>(error: &anyhow::Error, with: impl Fn(&dyn Diagnostic) -> T) -> Option<T> {
    error.chain().find_map(|cause| {
        if let Some(found) = cause.downcast_ref::<tidemill_project::config::ConfigError>() {
            Some(with(found))
        } else if let Some(found) = cause.downcast_ref::<tidemill_project::contract::ContractError>() {
            Some(with(found))
        } else if let Some(found) = cause.downcast_ref::<tidemill_project::scaffold::ScaffoldError>() {
            Some(with(found))
        } else if let Some(found) = cause.downcast_ref::<tidemill_ingest::Error>() {
            Some(with(found))
        } else if let Some(found) = cause.downcast_ref::<tidemill_transform::Error>() {
            Some(with(found))
        } else if let Some(found) = cause.downcast_ref::<tidemill_transform::artifacts::ArtifactError>() {
            Some(with(found))
        } else if let Some(found) = cause.downcast_ref::<tidemill_transform::run::BuildError>() {
            Some(with(found))
        } else if let Some(found) = cause.downcast_ref::<tidemill_collect::Error>() {
            Some(with(found))
        } else if let Some(found) = cause.downcast_ref::<tidemill_publish::Error>() {
            Some(with(found))
        } else if let Some(found) = cause.downcast_ref::<tidemill_transform::run::QueryError>() {
            Some(with(found))
        } else {
            cause.downcast_ref::<tidemill_lake::Error>().map(|found| with(found))
        }
    })
}

/// The exit code of an error; errors that no room made are failures.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    if error.chain().any(<dyn std::error::Error>::is::<UsageError>) {
        return Exit::Usage;
    }
    diagnostic(error, Diagnostic::kind).map_or(Exit::Failed, Exit::from)
}

/// A wrong combination on the command line that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct UsageError {
    /// What is wrong.
    pub(crate) message: String,
}

/// The code of an error, when a room gave it one.
pub(crate) fn code_of(error: &anyhow::Error) -> Option<ErrorCode> {
    diagnostic(error, Diagnostic::code).flatten()
}

/// Renders an error as it is shown to a person.
pub(crate) fn render(error: &anyhow::Error) -> String {
    struct Facts {
        kind: ErrorKind,
        code: Option<ErrorCode>,
        hint: Option<String>,
        location: Option<Location>,
        faults: Vec<Fault>,
    }
    let facts = diagnostic(error, |found| Facts {
        kind: found.kind(),
        code: found.code(),
        hint: found.hint(),
        location: found.location().cloned(),
        faults: found.faults().to_vec(),
    });
    let mut text = String::new();
    match facts {
        Some(facts) if !facts.faults.is_empty() => {
            for fault in &facts.faults {
                head(&mut text, fault.code, &fault.message);
                tail(&mut text, fault.location.as_ref(), fault.hint.as_deref());
            }
            let count = facts.faults.len();
            let noun = if count == 1 { "fault" } else { "faults" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{count} {noun}: {error}");
        }
        Some(facts) => {
            head(&mut text, facts.code, &chain(error));
            tail(&mut text, facts.location.as_ref(), facts.hint.as_deref());
            if facts.kind == ErrorKind::Bug {
                let _ = writeln!(text, "hint: this is a fault of tidemill's; please report it with the lines above");
            }
        }
        None => head(&mut text, None, &chain(error)),
    }
    text
}

/// An error and its causes in one line, for a cell of a table.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let line = source.to_string();
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = source.source();
    }
    text
}

fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for cause in error.chain() {
        let line = cause.to_string();
        // Transparent wrappers repeat their source word for word.
        if line == last {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\n  caused by: ");
        }
        text.push_str(&line);
        last = line;
    }
    text
}

fn head(text: &mut String, code: Option<ErrorCode>, message: &str) {
    let _ = match code {
        Some(code) => writeln!(text, "error[{code}]: {message}"),
        None => writeln!(text, "error: {message}"),
    };
}

fn tail(text: &mut String, location: Option<&Location>, hint: Option<&str>) {
    if let Some(location) = location {
        let _ = writeln!(text, "  --> {location}");
    }
    if let Some(hint) = hint {
        let _ = writeln!(text, "hint: {hint}");
    }
}
