//! Models into topics of an in-process broker: what is sent, and above all what is not.
//!
//! The broker speaks the protocol of transactions without keeping them apart, so what a kill leaves is tested on a real one
//! (`tests/tests/e2e/topics.rs`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod golden;
#[path = "../support/rows.rs"]
mod rows;
mod rules;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the parts that warehouses need")]
mod support;
mod world;
