//! Snapshots of statements.
