//! A model's fingerprint: what its rows follow from, beside its inputs.
//!
//! Two halves, `<sql>:<configuration>`, so that a plan can say which of them changed. Comments, spacing and the case of
//! keywords do not count: the compiled SQL is parsed and printed again.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::project::{Model, Storage, Strategy};
use crate::run::hex;

/// Counts up whenever a function of ours, or the way a batch is cut, gives other rows than before: all models rebuild then.
const ENGINE_SEMANTICS: u32 = 1;

/// The fingerprint of a model whose SQL, and that of the views under it, compiles to `compiled`.
pub(crate) fn fingerprint(model: &Model, compiled: &[String]) -> String {
    let mut sql = Sha256::new();
    sql.update(ENGINE_SEMANTICS.to_le_bytes());
    for text in compiled {
        let text = normalised(text);
        sql.update((text.len() as u64).to_le_bytes());
        sql.update(text);
    }
    let config = &model.config;
    let storage = config.storage();
    let batched = storage == Storage::Incremental(Strategy::Microbatch);
    let configuration = json!({
        "storage": storage,
        "unique_key": config.unique_key,
        "event_time": config.event_time.as_ref().filter(|_| batched),
        "batch_size": config.batch_size.filter(|_| batched),
        "begin_us": config.begin_us.filter(|_| batched),
        "context": batched.then_some(&config.context),
        "watermark": config.watermark,
        "keyed": config.keyed,
    });
    let configuration = Sha256::digest(configuration.to_string());
    format!("{}:{}", hex(&sql.finalize()[..12]), hex(&configuration[..6]))
}

/// Which half differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// Neither.
    None,
    /// The SQL.
    Sql,
    /// The configuration alone.
    Configuration,
}

/// Compares two fingerprints.
pub(crate) fn compare(before: &str, now: &str) -> Difference {
    let sql = |text: &str| text.split(':').next().map(str::to_owned);
    if before == now {
        Difference::None
    } else if sql(before) == sql(now) {
        Difference::Configuration
    } else {
        Difference::Sql
    }
}

/// SQL without comments and spacing. What does not parse here is for the engine to complain about; its text counts then.
fn normalised(sql: &str) -> String {
    match Parser::parse_sql(&PostgreSqlDialect {}, sql) {
        Ok(statements) => statements.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"),
        Err(_) => sql.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_spacing_do_not_count() {
        let spread = "select a, -- the first\n  b\nfrom t /* all */\nwhere a > 1";
        assert_eq!(normalised(spread), normalised("SELECT a, b FROM t WHERE a > 1"));
        assert_ne!(normalised(spread), normalised("select a, b from t where a > 2"));
    }

    #[test]
    fn a_changed_half_is_told_from_the_other() {
        assert_eq!(compare("a:b", "a:b"), Difference::None);
        assert_eq!(compare("a:b", "a:c"), Difference::Configuration);
        assert_eq!(compare("a:b", "x:b"), Difference::Sql);
        assert_eq!(compare("", "x:b"), Difference::Sql);
    }
}
