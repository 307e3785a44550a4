//! Building, seen from outside: what stands in the tables after runs.

mod columns;
mod dependents;
mod documented;
mod faults;
mod foreign;
mod history;
mod increments;
mod keyed;
mod panes;
mod plans;
mod public;
mod seeds;
mod shipped;
mod windowed;
mod world;
