//! Redis against its model, by way of the sent rows.

use std::sync::Arc;

use tidemill_lake::Table;

use super::RedisSink;
use crate::diff::columns_of;
use crate::messages::Audit;
use crate::sink::Sink;
use crate::{CheckedTable, Publication, Result};

const KEYS_AT_ONCE: usize = 1_000;

impl RedisSink {
    pub(super) async fn compare(&self, publication: &Publication, model: Arc<Table>) -> Result<CheckedTable> {
        let mut store = self.connect(publication).await?;
        let position = store.head().await?.map(|head| head.position);
        let sent = self.sent.at(publication, position.as_ref()).await?.map(Arc::new);
        let mut audit = Audit::run(publication, model, position, sent, self.name()).await?;
        let expires = publication.as_messages().ttl.is_some();
        let expected: Vec<(u128, String)> = if audit.tells_ends {
            std::mem::take(&mut audit.expected).into_values().collect()
        } else {
            // Several rows share a key: only the last one can be there.
            let last: std::collections::BTreeMap<String, u128> =
                audit.expected_rows().into_iter().map(|(_, (value, key))| (key, value)).collect();
            last.into_iter().map(|(key, value)| (value, key)).collect()
        };
        for part in expected.chunks(KEYS_AT_ONCE) {
            let keys: Vec<String> = part.iter().map(|(_, key)| key.clone()).collect();
            for ((value, key), found) in part.iter().zip(store.values(&keys).await?) {
                match found {
                    Some(found) => {
                        audit.checked.target_rows += 1;
                        if Audit::hash(&found) != *value {
                            audit.differs(key);
                        }
                    }
                    // Its time to live may have passed since it was sent.
                    None if expires => {}
                    None => audit.misses(key),
                }
            }
        }
        let known: std::collections::BTreeSet<&str> = expected.iter().map(|(_, key)| key.as_str()).collect();
        let (mut cursor, pattern) = (0, glob_of(&publication.as_messages().key_pattern(&publication.unique_key)));
        loop {
            let (next, keys) = store.scan(cursor, &pattern).await?;
            audit.checked.extra += keys.iter().filter(|key| !known.contains(key.as_str())).count() as u64;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        Ok(audit.checked)
    }
}

/// `zoner:insights:{user_id}` as Redis matches keys: `zoner:insights:*`.
fn glob_of(pattern: &str) -> String {
    let mut glob = String::new();
    for c in columns_of(pattern).fold(pattern.to_owned(), |text, column| text.replace(&format!("{{{column}}}"), "\u{0}")).chars() {
        match c {
            '\u{0}' => glob.push('*'),
            '*' | '?' | '[' | ']' | '\\' => glob.extend(['\\', c]),
            c => glob.push(c),
        }
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::glob_of;

    #[test]
    fn a_key_pattern_becomes_a_glob() {
        assert_eq!(glob_of("zoner:insights:{user_id}"), "zoner:insights:*");
        assert_eq!(glob_of("a*{b}/{c}"), "a\\**/*");
    }
}
