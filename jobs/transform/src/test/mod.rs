//! Tests: of data that is there, of a model's logic on rows that are made up, and of stories.
//!
//! | kind | module | asks | needs a lake |
//! | --- | --- | --- | --- |
//! | data test | `data` | which rows that are stored should not be? | yes |
//! | unit test | `unit` | what does a model make of these rows? | no |
//! | scenario test | `scenario` | what stands in the tables after this story? | one of its own, in memory |
//!
//! Who wants to test rows before they are visible (an audit before the commit) asks [`Tester::compile_against`] for the
//! tests of a model, compiled against any relation of a session of theirs, and judges each with `judge`; `failing_rows` hands over
//! what was found.

mod compare;
mod data;
mod kin;
mod ledger;
mod narrow;
mod rows;
mod run;
mod scenario;
mod shapes;
mod store;
#[cfg(test)]
mod tests;
mod unit;

pub(crate) use data::{CompiledTest, Finding, Manner, Tester, Verdict};
pub(crate) use kin::Subject;
pub(crate) use ledger::Ledger;
pub(crate) use narrow::Proof;
pub use run::TestOptions;
pub use scenario::{Books, Feed, FeedError, Feeder, Ground};
