//! The keys of `tidemill.toml`.

mod collect;
mod project;
mod services;
mod stores;

use collect::COLLECT;
use project::PROJECT;
use services::SERVICES;
use stores::STORES;

use super::KeyDoc;

const COUNT: usize = PROJECT.len() + STORES.len() + COLLECT.len() + SERVICES.len();

/// In the order of the page.
pub(super) const SETTINGS: &[KeyDoc] = &join([PROJECT, STORES, COLLECT, SERVICES]);

/// The parts as one table; that it is filled to its end is checked when it is compiled.
const fn join(parts: [&[KeyDoc]; 4]) -> [KeyDoc; COUNT] {
    let mut all = [PROJECT[0]; COUNT];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let mut index = 0;
        while index < parts[part].len() {
            all[at] = parts[part][index];
            at += 1;
            index += 1;
        }
        part += 1;
    }
    assert!(at == COUNT, "the parts are as long as the table");
    all
}
