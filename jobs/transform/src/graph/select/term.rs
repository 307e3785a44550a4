//! One selector taken apart: `2+tag:nightly+` has depth 2 up and no limit down.

use tidemill_project::Fault;

use super::method::Method;
use crate::error::codes;
use crate::project::SelectorTerm;

/// A selector.
#[derive(Debug)]
pub(super) struct Term {
    /// As it was written.
    pub(super) text: String,
    pub(super) method: Method,
    pub(super) up: Option<Reach>,
    pub(super) down: Option<Reach>,
    /// `@x`: `x`, what stands on it, and all that these stand on.
    pub(super) at: bool,
}

/// How far a selector walks: `2+x` or `+x`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reach {
    Edges(usize),
    All,
}

impl Reach {
    /// Reads what stands before or behind a `+`; `None` when the number is too large.
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(Self::All) } else { text.parse().ok().map(Self::Edges) }
    }

    pub(super) fn limit(self) -> Option<usize> {
        match self {
            Self::Edges(limit) => Some(limit),
            Self::All => None,
        }
    }
}

impl Term {
    /// Reads a selector of the command line.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let bad = |why: &str| Fault::new(format!("{why}, selector=`{text}`")).code(codes::BAD_SELECTOR);
        let (at, rest) = match text.strip_prefix('@') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let is_depth = |depth: &str| depth.chars().all(|letter| letter.is_ascii_digit());
        let (up, rest) = match rest.split_once('+') {
            Some((depth, rest)) if is_depth(depth) => {
                (Some(Reach::parse(depth).ok_or_else(|| bad("depth is too large"))?), rest)
            }
            _ => (None, rest),
        };
        let (down, rest) = match rest.rsplit_once('+') {
            Some((rest, depth)) if is_depth(depth) => {
                (Some(Reach::parse(depth).ok_or_else(|| bad("depth is too large"))?), rest)
            }
            _ => (None, rest),
        };
        if at && (up.is_some() || down.is_some()) {
            return Err(bad("`@` cannot be combined with `+`"));
        }
        if rest.is_empty() {
            return Err(bad("selector names nothing"));
        }
        let method = match rest.split_once(':') {
            Some((method, value)) => Method::parse(method, value, text)?,
            None => Method::guess(rest),
        };
        Ok(Self { text: text.to_owned(), method, up, down, at })
    }

    /// Takes a term of `selectors.yml`.
    pub(super) fn from_yaml(term: &SelectorTerm) -> Result<Self, Fault> {
        let reach = |depth: Option<usize>| depth.map_or(Reach::All, Reach::Edges);
        let text = format!("{}:{}", term.method, term.value);
        if term.childrens_parents && (term.parents || term.children) {
            let message =
                format!("`childrens_parents` cannot be combined with `parents` or `children`, selector=`{text}`");
            return Err(Fault::new(message).code(codes::BAD_SELECTOR));
        }
        Ok(Self {
            method: Method::parse(&term.method, &term.value, &text)?,
            text,
            up: term.parents.then(|| reach(term.parents_depth)),
            down: term.children.then(|| reach(term.children_depth)),
            at: term.childrens_parents,
        })
    }
}
