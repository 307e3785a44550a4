//! One statement as it is sent.

/// Whether a statement may be sent again after its answer did not arrive. Source: SNOWFLAKE.md, "What may be sent again".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Reads, and acts that end the same however often they run.
    Always,
    /// Only when it surely did not run.
    IfNotRun,
    /// Never: `COMMIT`.
    Never,
}

/// What a statement does to the session's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Opens it.
    Begin,
    /// Ends it.
    End,
}

/// A statement with its values apart, so that no text is ever spliced into SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// What it is for: names errors and the crash point behind it.
    pub(super) step: &'static str,
    /// The text; `?` stands for a binding.
    pub(super) sql: String,
    /// Texts, in the order of the `?`.
    pub(super) bindings: Vec<String>,
    pub(super) repeat: Repeat,
    pub(super) effect: Effect,
}

impl Statement {
    /// A statement that reads, or ends the same however often it runs.
    pub(super) fn idempotent(step: &'static str, sql: impl Into<String>) -> Self {
        Self { step, sql: sql.into(), bindings: Vec::new(), repeat: Repeat::Always, effect: Effect::None }
    }

    /// A statement that writes.
    pub(super) fn write(step: &'static str, sql: impl Into<String>) -> Self {
        Self { repeat: Repeat::IfNotRun, ..Self::idempotent(step, sql) }
    }

    /// Adds the values for the `?`.
    pub(super) fn bind<T: Into<String>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        self.bindings.extend(values.into_iter().map(Into::into));
        self
    }
}
