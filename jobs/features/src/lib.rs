//! Nothing but one set of features for the whole tree.
//!
//! Cargo unites the features of what a command selects, so building one room asks for other features of the shared
//! dependencies than building all of them, and the tree is compiled once for each selection. Every room stands on this
//! crate, whose `Cargo.toml` names the united features of the crates that differed: the tree is compiled once.
