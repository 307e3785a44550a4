//! Compaction, checkpoints, log clean-up, vacuum.
