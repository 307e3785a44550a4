//! Building, seen from outside: what stands in the tables after runs.

mod increments;
mod seeds;
mod shipped;
mod world;
