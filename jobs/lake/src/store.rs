//! Stores by URL.
