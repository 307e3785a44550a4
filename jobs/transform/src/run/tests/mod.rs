//! Building, seen from outside: what stands in the tables after runs.

mod increments;
mod keyed;
mod panes;
mod plans;
mod seeds;
mod shipped;
mod world;
