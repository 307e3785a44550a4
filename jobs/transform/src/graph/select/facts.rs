//! What earlier artifacts say, for `state:`, `result:` and `source_status:`.

use std::collections::{BTreeMap, BTreeSet};

use crate::project::NodeId;

/// Sets of nodes that were worked out from artifacts; `None` where there was none to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// By what stands behind `state:`.
    pub state: Option<BTreeMap<String, BTreeSet<NodeId>>>,
    /// By what stands behind `result:`.
    pub results: Option<BTreeMap<String, BTreeSet<NodeId>>>,
    /// Sources whose newest row is newer than it was.
    pub fresher: Option<BTreeSet<NodeId>>,
}
