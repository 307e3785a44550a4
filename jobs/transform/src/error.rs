//! What can be wrong with a models project, and what the caller can do about it.

use tidemill_project::{Diagnostic, ErrorCode, ErrorKind, Fault, Location};

/// The codes of faults in a project's files, one page each; those of 350 and above are `run`'s.
pub(crate) mod codes {
    /// A `ref` that leads nowhere.
    pub(crate) const UNKNOWN_REF: u16 = 301;
    /// A `source`, or the source of a watermark, that is not declared.
    pub(crate) const UNKNOWN_SOURCE: u16 = 302;
    /// Models that read each other in a circle.
    pub(crate) const CYCLE: u16 = 303;
    /// A selector that matches nothing.
    pub(crate) const EMPTY_SELECTOR: u16 = 304;
    /// A selector that cannot be read.
    pub(crate) const BAD_SELECTOR: u16 = 305;
    /// A selector that needs artifacts which are not there.
    pub(crate) const NO_STATE: u16 = 307;
    /// Configuration about an input that the model does not have.
    pub(crate) const UNKNOWN_INPUT: u16 = 306;
    /// A file that is not YAML.
    pub(crate) const YAML: u16 = 310;
    /// A value of another type than the key's.
    pub(crate) const WRONG_TYPE: u16 = 311;
    /// A key that nobody knows.
    pub(crate) const UNKNOWN_KEY: u16 = 312;
    /// A value that the key does not take.
    pub(crate) const UNKNOWN_VALUE: u16 = 313;
    /// A key that must be there is not.
    pub(crate) const MISSING_KEY: u16 = 314;
    /// Two things of one name.
    pub(crate) const REPEATED: u16 = 315;
    /// YAML about a file that is not there.
    pub(crate) const ORPHAN: u16 = 316;
    /// A file or folder that cannot be read.
    pub(crate) const READ: u16 = 317;
    /// A package that is not there.
    pub(crate) const PACKAGE: u16 = 318;
    /// Jinja in YAML that cannot be resolved.
    pub(crate) const YAML_EXPRESSION: u16 = 320;
    /// A template that cannot be rendered.
    pub(crate) const TEMPLATE: u16 = 321;
    /// A generic test that does not exist or is called wrongly.
    pub(crate) const GENERIC_TEST: u16 = 322;
    /// A test on a column that is not there.
    pub(crate) const TEST_COLUMN: u16 = 330;
    /// Rows of a test that cannot be read or do not fit.
    pub(crate) const FIXTURE: u16 = 331;
    /// A scenario that cannot be told as it is written.
    pub(crate) const SCENARIO: u16 = 332;
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_a_page() {
        let own = include_str!("error.rs");
        let codes = own.lines().filter_map(|line| line.trim().strip_prefix("pub(crate) const ")?.split_once("u16 = "));
        let numbers: Vec<u16> = codes.map(|(_, number)| number.trim_end_matches(';').parse().unwrap()).collect();
        assert!(numbers.contains(&codes::UNKNOWN_REF) && numbers.contains(&codes::GENERIC_TEST));
        for number in numbers {
            let code = ErrorCode(number);
            let page = format!("{}/../../docs/errors/{code}.md", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page}: {error}"));
            assert!(text.starts_with(&format!("# {code}: ")), "{page}");
        }
    }
}
