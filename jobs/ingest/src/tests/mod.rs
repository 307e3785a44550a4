//! Whole roads: an in-process broker, a lake in a temporary folder.
