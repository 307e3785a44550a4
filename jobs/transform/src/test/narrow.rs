//! Tests that look at what is new only, and are as right as if they had looked at all.
//!
//! A test that once found nothing wrong in a table need not look at those rows again, as long as they are there unchanged and
//! nothing else that its answer follows from has changed. What it must look at depends on the test:
//!
//! | test | looks at |
//! | --- | --- |
//! | judges each row by itself (`not_null`, `accepted_values`, `accepted_range`, …) | rows in files that came since |
//! | judges a row by other tables too (`relationships`) | the same, while those other tables stand still |
//! | judges a row by its fellows (`unique`, `unique_combination`) | rows, wherever they lie, that share their key with a row in files that came since; files whose batch or whose bounds rule that out are not opened |
//! | any other | everything |
//!
//! A custom test may ask anything, so it is one of "any other", and so is a condition that holds a query or asks for the time.

use datafusion::common::TableReference;
use datafusion::prelude::SessionContext;
use tidemill_project::TableVersion;

use super::data::{CompiledTest, Tester};
use super::kin::Subject;
use crate::plan::{event_time_of, is_stored, table_of};
use crate::project::{GenericTest, NodeId};
use crate::render::Relation;
use crate::run::session::{Narrowing, register};
use crate::run::{BuildFault, Result};

/// The name of the new rows in the session of a test of uniqueness.
const NEW_ROWS: &str = "tidemill_new_rows";

/// What stood when a test passed, as numbers that the ledger can keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    /// Hash of the query and of the versions of all that it reads: while it is the same, so is the answer.
    pub whole: i64,
    /// The same without the version of the tested table.
    pub rest: i64,
    /// The version of the tested table, when no row at all failed.
    pub clean_at: Option<i64>,
}

/// How a test looks at rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Each by itself.
    Row,
    /// Together with those of the same key.
    Key,
    /// All of them.
    Table,
}

/// A test over what is new, ready to run.
pub(crate) struct Narrow {
    pub context: SessionContext,
    pub test: CompiledTest,
}

impl Tester {
    /// The test over what came into its table since `clean_at`; `None` when it must look at everything. The caller has found
    /// that nothing but the tested table changed.
    pub(crate) async fn narrow(
        &self,
        test: &GenericTest,
        full: &CompiledTest,
        clean_at: i64,
    ) -> Result<Option<Narrow>> {
        let Some(id) = table_of(&self.sessions.project, &test.attached_to) else { return Ok(None) };
        let Some(table) = self.sessions.snapshots.get(&id).await? else { return Ok(None) };
        self.narrow_on(Subject { table: &table, add: &[], remove: &[] }, test, full, clean_at).await
    }

    /// The same on a table as the caller sees it.
    pub(crate) async fn narrow_on(
        &self,
        subject: Subject<'_>,
        test: &GenericTest,
        full: &CompiledTest,
        clean_at: i64,
    ) -> Result<Option<Narrow>> {
        let sight = self.sight(test);
        let (node, table) = (&test.attached_to, subject.table);
        if sight == Sight::Table || !is_stored(&self.sessions.project, node) {
            return Ok(None);
        }
        let Ok(clean_at) = u64::try_from(clean_at) else { return Ok(None) };
        let Some(fresh) = subject.fresh(TableVersion(clean_at)).await else { return Ok(None) };
        let over = |files| Narrowing::files(&self.sessions.empty(), table, files);
        if sight == Sight::Row {
            return self.over_part(full, over(fresh)?).await.map(Some);
        }
        let Some(key) = key_of(test) else { return Ok(None) };
        let kin = subject.kin_of(&fresh, &key, event_time_of(&self.sessions.project, node));
        if kin.is_empty() {
            return self.over_part(full, over(fresh)?).await.map(Some);
        }
        let (Some(first), Some(relation)) = (key.first(), self.sessions.compiler.relation(node)) else {
            return Ok(None);
        };
        // Rows without a value there may still be copies of each other.
        let narrowed = Relation {
            sql: format!(
                "(select * from {} where {first} in (select {first} from {NEW_ROWS}) or {first} is null) \
                 as tidemill_shared_keys",
                relation.sql
            ),
            ..relation
        };
        let new_rows = over(fresh.clone())?.shown;
        let part = over(fresh.into_iter().chain(kin).collect())?;
        let mut narrow = self.over_part(full, part).await?;
        register(&narrow.context, &TableReference::bare(NEW_ROWS), new_rows).map_err(BuildFault::plan(node, None))?;
        narrow.test = self.compile_over(&test.name, node, &narrowed)?;
        Ok(Some(narrow))
    }

    /// A test in a session in which its table shows a part of its rows.
    async fn over_part(&self, test: &CompiledTest, part: Narrowing) -> Result<Narrow> {
        let part = std::slice::from_ref(&part);
        let context = self.sessions.over(test.inputs.clone(), &self.render, Some(part)).await?;
        Ok(Narrow { context, test: test.clone() })
    }

    fn sight(&self, test: &GenericTest) -> Sight {
        if !self.sessions.compiler.renderer().is_shipped_test(test) {
            return Sight::Table;
        }
        let reads: Vec<&NodeId> = self.sessions.graph.parents(&NodeId::Test(test.name.clone())).collect();
        let texts = test.args.values().filter_map(|value| value.as_str()).chain(test.config.filter.as_deref());
        if texts.chain(test.column.as_deref()).any(asks_more) {
            return Sight::Table;
        }
        match test.test.as_str() {
            "not_null" | "accepted_values" | "accepted_range" | "expression_is_true" | "not_empty_string" => Sight::Row,
            // A table that refers to itself changes on both sides.
            "relationships" | "relationships_where" if reads.len() == 2 => Sight::Row,
            "unique" | "unique_combination" | "unique_combination_of_columns" => Sight::Key,
            _ => Sight::Table,
        }
    }
}

/// Whether SQL may depend on more than the row that it stands beside. A false alarm costs time only.
fn asks_more(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    let asks =
        ["select", "over", "now", "current", "today", "random", "uuid", "count", "sum", "min", "max", "avg", "{{"];
    asks.iter().any(|word| match word.chars().next() {
        Some('{') => {
            sql.contains(word) && !sql.trim_start().starts_with("ref(") && !sql.trim_start().starts_with("source(")
        }
        _ => sql
            .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
            .any(|found| found == *word || found.starts_with("current_")),
    })
}

/// The expressions that two rows must share to be copies of each other; `None` for names that are quoted on their way into
/// the query.
fn key_of(test: &GenericTest) -> Option<Vec<String>> {
    if let Some(column) = &test.column {
        return Some(vec![column.clone()]);
    }
    if test.args.contains_key("quote_columns") {
        return None;
    }
    let columns = test.args.get("combination_of_columns").or_else(|| test.args.get("columns"))?;
    columns.as_array()?.iter().map(|column| column.as_str().map(ToOwned::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::asks_more;

    #[test]
    fn conditions_that_look_beyond_their_row_are_told_from_those_that_do_not() {
        for sql in ["amount > 0", "status in ('a', 'b')", "counter > 1", "overtime < 3", "ref('customers')"] {
            assert!(!asks_more(sql), "{sql}");
        }
        for sql in [
            "id in (select id from other)",
            "row_number() over (partition by id) = 1",
            "created_at < now()",
            "created_at < current_timestamp - interval '1 day'",
            "sum(amount) = 3",
            "{{ var('x') }} > amount",
        ] {
            assert!(asks_more(sql), "{sql}");
        }
    }
}
