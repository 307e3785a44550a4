//! What can be wrong with a models project, and what the caller can do about it.

use tidemill_project::{Diagnostic, ErrorCode, ErrorKind, Fault, Location};

/// The result of reading, linking and rendering a project.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A models project that cannot be used as it is.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    /// Never empty.
    #[error("{}", summary(.0))]
    Faults(Vec<Fault>),
    /// The source is told in the fault already: file, line and macros in the user's terms. It is kept for debug output.
    #[error("{}", .0.message)]
    Template(Box<Fault>, Box<minijinja::Error>),
}

fn summary(faults: &[Fault]) -> String {
    match faults {
        [only] => only.message.clone(),
        _ => format!("the models project has {} faults", faults.len()),
    }
}

impl Error {
    /// All of them as one error; a single fault speaks for itself.
    pub(crate) fn from_faults(faults: Vec<Fault>) -> Self {
        Self(Cause::Faults(faults))
    }

    /// A template that cannot be rendered.
    pub(crate) fn from_template(fault: Fault, source: minijinja::Error) -> Self {
        Self(Cause::Template(Box::new(fault), Box::new(source)))
    }

    /// The faults, to be told together with others.
    pub(crate) fn into_faults(self) -> Vec<Fault> {
        match self.0 {
            Cause::Faults(faults) => faults,
            Cause::Template(fault, _) => vec![*fault],
        }
    }

    /// Changes each fault.
    pub(crate) fn map_fault(mut self, change: impl Fn(&mut Fault)) -> Self {
        match &mut self.0 {
            Cause::Faults(faults) => faults.iter_mut().for_each(change),
            Cause::Template(fault, _) => change(fault),
        }
        self
    }

    fn only_fault(&self) -> Option<&Fault> {
        match &self.0 {
            Cause::Faults(faults) if faults.len() == 1 => faults.first(),
            Cause::Faults(_) => None,
            Cause::Template(fault, _) => Some(fault),
        }
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }

    fn code(&self) -> Option<ErrorCode> {
        self.only_fault().and_then(|fault| fault.code)
    }

    fn hint(&self) -> Option<String> {
        self.only_fault().and_then(|fault| fault.hint.clone())
    }

    fn location(&self) -> Option<&Location> {
        self.only_fault().and_then(|fault| fault.location.as_ref())
    }

    fn faults(&self) -> &[Fault] {
        match &self.0 {
            Cause::Faults(faults) if faults.len() > 1 => faults,
            _ => &[],
        }
    }
}
