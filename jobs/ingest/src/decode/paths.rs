//! Which fields of a record the contract reads: the paths of all columns as one tree.

use std::ops::Range;

use super::scan::Token;

/// The tree, flattened: objects, each with a run of entries.
#[derive(Debug)]
pub(crate) struct Paths {
    /// Entries of each object that paths lead through; the record itself comes first.
    objects: Vec<Range<usize>>,
    entries: Vec<Entry>,
    num_slots: usize,
    may_be_flat: bool,
}

/// A field of an object that some path names.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) name: Box<str>,
    /// Where its value goes when a path ends here.
    pub(crate) slot: Option<usize>,
    /// The object that it holds when paths lead on.
    pub(crate) child: Option<usize>,
}

impl Paths {
    /// The record's own object.
    pub(crate) const ROOT: usize = 0;

    /// Builds the tree. `paths` are distinct; the slot of a path is its index. An empty path is never found.
    pub(crate) fn new<'a>(paths: impl IntoIterator<Item = &'a [String]>) -> Self {
        let mut root = Vec::new();
        let mut num_slots = 0;
        for path in paths {
            plant(&mut root, path, num_slots);
            num_slots += 1;
        }
        let mut tree = Self { objects: Vec::new(), entries: Vec::new(), num_slots, may_be_flat: false };
        tree.flatten(root);
        let is_written_as_is = |name: &str| !name.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
        tree.may_be_flat = tree.entries.iter().all(|entry| entry.child.is_none() && is_written_as_is(&entry.name));
        tree
    }

    /// No path leads into an object, and every name stands in a record as it is: what [`flat`](super::flat) wants.
    #[inline]
    pub(crate) fn may_be_flat(&self) -> bool {
        self.may_be_flat
    }

    /// The name of an entry of `object`; `None` when it belongs to another.
    #[inline]
    pub(crate) fn guess(&self, object: usize, entry: usize) -> Option<&str> {
        self.objects[object].contains(&entry).then(|| &*self.entries[entry].name)
    }

    /// Distinct paths.
    pub(crate) fn num_slots(&self) -> usize {
        self.num_slots
    }

    /// An entry by its index.
    #[inline]
    pub(crate) fn entry(&self, entry: usize) -> &Entry {
        &self.entries[entry]
    }

    /// Finds the entry of a key, looking at `guess` first.
    #[inline]
    pub(crate) fn find(&self, object: usize, guess: usize, key: &str) -> Option<usize> {
        let range = &self.objects[object];
        if range.contains(&guess) && *self.entries[guess].name == *key {
            return Some(guess);
        }
        range.clone().find(|entry| *self.entries[*entry].name == *key)
    }

    /// Sets the tokens of all paths through `object` back: the field that holds it comes a second time.
    pub(crate) fn forget(&self, object: usize, tokens: &mut [Token]) {
        for entry in self.objects[object].clone() {
            if let Some(slot) = self.entries[entry].slot {
                tokens[slot] = Token::Absent;
            }
            if let Some(child) = self.entries[entry].child {
                self.forget(child, tokens);
            }
        }
    }

    /// How many places remember which entry comes next: one per entry, one per object for its first field.
    pub(crate) fn num_followers(&self) -> usize {
        self.entries.len() + self.objects.len()
    }

    /// The place that remembers what follows `entry`.
    #[expect(clippy::unused_self, reason = "pairs with first_follower; together they define the numbering")]
    pub(crate) fn follower_of(&self, entry: usize) -> usize {
        entry
    }

    /// The place that remembers the first field of `object`.
    #[inline]
    pub(crate) fn first_follower(&self, object: usize) -> usize {
        self.entries.len() + object
    }

    fn flatten(&mut self, nodes: Vec<Node>) -> usize {
        let object = self.objects.len();
        let from = self.entries.len();
        self.objects.push(from..from + nodes.len());
        let mut children = Vec::new();
        for (index, node) in nodes.into_iter().enumerate() {
            self.entries.push(Entry { name: node.name, slot: node.slot, child: None });
            if !node.children.is_empty() {
                children.push((from + index, node.children));
            }
        }
        for (entry, nodes) in children {
            let child = self.flatten(nodes);
            self.entries[entry].child = Some(child);
        }
        object
    }
}

struct Node {
    name: Box<str>,
    slot: Option<usize>,
    children: Vec<Node>,
}

fn plant(nodes: &mut Vec<Node>, path: &[String], slot: usize) {
    let Some((name, rest)) = path.split_first() else { return };
    let index = nodes.iter().position(|node| *node.name == **name).unwrap_or_else(|| {
        nodes.push(Node { name: name.as_str().into(), slot: None, children: Vec::new() });
        nodes.len() - 1
    });
    if rest.is_empty() {
        nodes[index].slot = Some(slot);
    } else {
        plant(&mut nodes[index].children, rest, slot);
    }
}
