//! Names of generic tests.

use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use super::model::NodeId;

/// Longest name, as in PostgreSQL, where dbt took its limit from.
const MAX_BYTES: usize = 63;

/// `not_null_orders_id`, as dbt names tests; long names end with a hash of what was cut off.
pub(super) fn test_name(node: &NodeId, test: &str, column: Option<&str>, args: &Map<String, Json>) -> String {
    let (prefix, owner) = match node {
        NodeId::Source(name) => ("source_", format!("{}_{}", name.source, name.table)),
        other => ("", other.name()),
    };
    let mut name = format!("{prefix}{test}_{owner}");
    if let Some(column) = column {
        name = format!("{name}_{column}");
    }
    let mut tail = String::new();
    for value in args.values() {
        flatten(value, &mut tail);
    }
    let clean: String = format!("{name}{tail}")
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
        .collect();
    if clean.len() <= MAX_BYTES {
        return clean;
    }
    let digest = Sha256::digest(format!("{name}{tail}").as_bytes());
    let hash = digest.iter().take(8).fold(0_u64, |hash, byte| (hash << 8) | u64::from(*byte));
    format!("{}_{hash:016x}", &clean[..MAX_BYTES - 17])
}

fn flatten(value: &Json, into: &mut String) {
    match value {
        Json::Array(items) => items.iter().for_each(|item| flatten(item, into)),
        Json::Object(entries) => entries.values().for_each(|item| flatten(item, into)),
        Json::String(text) => {
            into.push_str("__");
            into.push_str(text);
        }
        other => {
            into.push_str("__");
            into.push_str(&other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_names_end_with_a_hash_of_the_whole() {
        let node = NodeId::Model("orders".to_owned());
        let name = |values: &[&str]| {
            let args = json!({"values": values}).as_object().cloned().unwrap();
            test_name(&node, "accepted_values", Some("status"), &args)
        };
        assert_eq!(name(&["a b"]), "accepted_values_orders_status__a_b");
        let values = ["placed", "shipped", "completed", "return_pending", "returned"];
        let (long, other) = (name(&values), name(&values[..4]));
        assert_eq!(long.len(), MAX_BYTES);
        assert_eq!(long[..MAX_BYTES - 16], other[..MAX_BYTES - 16]);
        assert_ne!(long, other);
    }
}
