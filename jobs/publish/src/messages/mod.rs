//! What topics and Redis have in common: rows become messages, and what was sent is remembered.
//!
//! | file | what it does |
//! | --- | --- |
//! | `encode.rs` | rows as JSON (SYSTEMS.md X27) under keys |
//! | `sent.rs` | the table of sent rows: what readers have, version by version |
//! | `deliver.rs` | one pass over the changes that feeds both |
//! | `audit.rs` | what readers should have |
//!
//! # Why sent rows are kept
//! Some rows wait (X28): for their window to close, or, once an alert was sent, for a reason to correct it. So what readers
//! have is not any version of the model, and a topic cannot be asked: it forgets, and its key need not be the row's. The table
//! `ops/sent_<sink>_<target>` in the lake holds the rows as they were last sent. It is written *before* the sink commits, and
//! the sink's own record names its version; a version that no record names is one that nobody was sent:
//!
//! | step | a crash behind it leaves |
//! | --- | --- |
//! | rows go out, new files of the table are written | an open transaction, which the next publisher ends; orphan files |
//! | the table commits version `m` | a version that no record names; the next publication builds on the one that is named |
//! | record naming `m` and rows are committed together | all done |
//! | the lake's advisory note | nothing: without it the sink is asked |

mod audit;
mod deliver;
mod encode;
mod sent;

pub(crate) use audit::Audit;
pub(crate) use deliver::{Delivery, Transport};
pub(crate) use encode::{Encoder, Message};
pub(crate) use sent::{SentRows, Written};
