//! Names of the objects that the loader keeps in each database, and how any name is written in SQL.

use crate::TargetTable;

/// Schema of heads and ledger.
pub(super) const OPS: &str = "OPS";
/// Schema of the stage and of staging tables.
pub(super) const STAGE: &str = "STAGE";
/// Column that tells which publication wrote a row; leads from the row to its ledger entry.
pub(super) const SEQ_COLUMN: &str = "_TIDEMILL_SEQ";
/// Column of targets that are published with `replace_batches`: the batch that the row belongs to.
pub(super) const BATCH_COLUMN: &str = "_TIDEMILL_BATCH";

/// Writes an identifier: plain upper-case names as they are, everything else quoted.
///
/// Names of columns are always quoted ([`quoted`]), because a model may call one `order` or `timestamp`. Names of tables are
/// not, because the emulator's `COPY` fails on them.
pub(super) fn ident(name: &str) -> String {
    let folded = name.to_uppercase();
    let plain = folded.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && folded.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    if plain { folded } else { quoted(&folded) }
}

/// Writes an identifier in quotes, upper case.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.to_uppercase().replace('"', "\"\""))
}

/// A target table with all names that follow from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// `ZONER_DB`
    pub(super) database: String,
    /// `ZONER_DB.PROCESSED_DATA`
    pub(super) schema: String,
    /// `ZONER_DB.PROCESSED_DATA.SLEEP_NIGHTLY`
    pub(super) table: String,
    /// The table's name as rows of heads and ledger carry it: `PROCESSED_DATA.SLEEP_NIGHTLY`.
    pub(super) label: String,
    /// Schema and table as `INFORMATION_SCHEMA` spells them.
    pub(super) schema_name: String,
    /// See `schema_name`.
    pub(super) table_name: String,
    /// `PROCESSED_DATA__SLEEP_NIGHTLY`: what heads, staging tables and directories are called after.
    pub(super) slug: String,
}

impl Names {
    pub(super) fn new(target: &TargetTable) -> Self {
        let database = ident(&target.database);
        let schema = format!("{database}.{}", ident(&target.schema));
        Self {
            table: format!("{schema}.{}", ident(&target.table)),
            label: format!("{}.{}", target.schema.to_uppercase(), target.table.to_uppercase()),
            schema_name: target.schema.to_uppercase(),
            table_name: target.table.to_uppercase(),
            slug: slug(target),
            schema,
            database,
        }
    }

    /// The one-row table that is the target's compare-and-swap.
    pub(super) fn head(&self) -> String {
        format!("{}.{OPS}.TIDEMILL_HEAD__{}", self.database, self.slug)
    }

    /// The staging table of one owner.
    pub(super) fn staging(&self, epoch: u64, owner: &str) -> String {
        format!("{}.{STAGE}.{}__E{epoch}_{}", self.database, self.slug, owner.get(..8).unwrap_or(owner).to_uppercase())
    }

    /// Staging tables of this target, whoever made them, as a `LIKE` pattern with `!` as escape.
    pub(super) fn staging_pattern(&self) -> String {
        format!("{}!_!_E%", self.slug.replace('_', "!_"))
    }

    /// The directory of one owner's files in the stage, ending with `/`: a path is a prefix, and `12` begins `120`.
    ///
    /// The owner is in it because two publishers may bring the same rows under the same number: one would overwrite, or clear
    /// away, what the other is just copying.
    pub(super) fn directory(&self, seq: u64, content_hash: &str, owner: &str) -> String {
        let start = |text: &str, length: usize| text.get(..length).unwrap_or(text).to_owned();
        format!("{}{}-{}/", self.directories(seq), start(content_hash, 16), start(owner, 8))
    }

    /// What the directories of all owners of one number begin with.
    pub(super) fn directories(&self, seq: u64) -> String {
        format!("@{}.{STAGE}.FILES/{}/{seq}-", self.database, self.slug)
    }
}

pub(super) fn ledger(database: &str) -> String {
    format!("{database}.{OPS}.TIDEMILL_LEDGER")
}

/// Schema and table when both are plain; else their letters and digits with a hash of the whole, so that no two targets share
/// one.
fn slug(target: &TargetTable) -> String {
    let name = format!("{}__{}", target.schema.to_uppercase(), target.table.to_uppercase());
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // Two underscores part schema from table, so a name that has them could be read two ways.
    let clear = |text: &str| !text.is_empty() && !text.contains("__") && !text.starts_with('_') && !text.ends_with('_');
    if plain(&name) && clear(&target.schema) && clear(&target.table) {
        return name;
    }
    let letters: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(60).collect();
    let whole = format!("{}\u{0}{}", target.schema.to_uppercase(), target.table.to_uppercase());
    let hash = xxhash_rust::xxh3::xxh3_64(whole.as_bytes()) & 0xffff_ffff;
    format!("{letters}_{hash:08X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(schema: &str, table: &str) -> TargetTable {
        TargetTable { database: "zoner_db".into(), schema: schema.into(), table: table.into() }
    }

    #[test]
    fn plain_names_stay_readable() {
        let names = Names::new(&target("processed_data", "sleep_nightly"));
        assert_eq!(names.table, "ZONER_DB.PROCESSED_DATA.SLEEP_NIGHTLY");
        assert_eq!(names.head(), "ZONER_DB.OPS.TIDEMILL_HEAD__PROCESSED_DATA__SLEEP_NIGHTLY");
        assert_eq!(names.staging(7, "9f3a1c2055"), "ZONER_DB.STAGE.PROCESSED_DATA__SLEEP_NIGHTLY__E7_9F3A1C20");
        assert_eq!(
            names.directory(12, "c0ffee", "9f3a1c2055"),
            "@ZONER_DB.STAGE.FILES/PROCESSED_DATA__SLEEP_NIGHTLY/12-c0ffee-9f3a1c20/"
        );
    }

    #[test]
    fn targets_that_spell_alike_get_different_slugs() {
        let slugs =
            [target("a", "b__c"), target("a__b", "c"), target("a", "b c"), target("a", "b-c"), target("a_", "b")];
        let distinct: std::collections::BTreeSet<_> = slugs.iter().map(slug).collect();
        assert_eq!(distinct.len(), slugs.len(), "{distinct:?}");
    }

    #[test]
    fn quotes_in_names_are_doubled() {
        assert_eq!(quoted("q\"t"), "\"Q\"\"T\"");
        assert_eq!(ident("my table"), "\"MY TABLE\"");
    }
}
