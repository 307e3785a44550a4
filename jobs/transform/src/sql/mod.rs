//! From SQL text to a plan.
//!
//! Models are written in PostgreSQL's dialect as DataFusion has it. Public projects use a little more: words of types and
//! functions that warehouses share, and an alias that is used beside its definition. [`plan`] takes these, too: what can be
//! said in our dialect is rewritten in the parsed statement, so that every word keeps its place in the text.

mod aliases;
mod booleans;
mod clauses;
mod folded;
mod functions;
mod places;
mod portable;
mod types;

#[cfg(test)]
mod tests;

use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::logical_expr::registry::FunctionRegistry as _;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::{
    Dialect, DuckDbDialect, GenericDialect, PostgreSqlDialect, SnowflakeDialect,
};

pub(crate) use places::trouble;

/// An alias may stand on another that stands on another; more than this is a slip.
const MAX_ALIASES: usize = 200;

/// Plans a query. Reads no data; tables are asked for their columns.
///
/// # Errors
/// As DataFusion has them, with the place in `sql` where it knows one: see [`trouble`].
pub async fn plan(context: &SessionContext, sql: &str) -> Result<DataFrame> {
    let mut statement = parse(sql)?;
    portable::rewrite(&mut statement);
    let mut state = context.state();
    state.config_mut().options_mut().sql_parser.collect_spans = true;
    state.register_expr_planner(booleans::Booleans::planner())?;
    let mut first_error: Option<DataFusionError> = None;
    for _ in 0..MAX_ALIASES {
        match state.statement_to_plan(statement.clone()).await {
            Ok(plan) => return context.execute_logical_plan(plan).await,
            Err(error) => {
                if !aliases::resolve(&mut statement, &error) && !folded::resolve(&mut statement, &error) {
                    return Err(first_error.unwrap_or(error));
                }
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or_else(|| DataFusionError::Plan("aliases go round in a circle".to_owned())))
}

/// The statements of a script: `;` outside of quotes and comments ends one. Empty ones are left out.
pub(crate) fn statements(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut quote = None;
    let mut letters = text.char_indices().peekable();
    while let Some((index, letter)) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '-') if letters.peek().is_some_and(|(_, next)| *next == '-') => {
                while letters.next_if(|(_, letter)| *letter != '\n').is_some() {}
            }
            (None, ';') => {
                found.push(text[start..index].trim());
                start = index + 1;
            }
            (Some(_) | None, _) => {}
        }
    }
    found.push(text[start..].trim());
    found.retain(|statement| !statement.is_empty());
    found
}

/// Parses one statement: in PostgreSQL's dialect, else in the first that knows what it says. The error is PostgreSQL's.
fn parse(sql: &str) -> Result<Statement> {
    let postgres = parse_as(sql, &PostgreSqlDialect {});
    let others: [&dyn Dialect; 3] = [&DuckDbDialect {}, &SnowflakeDialect, &GenericDialect];
    match postgres {
        Ok(statement) => Ok(statement),
        Err(error) => others.into_iter().find_map(|dialect| parse_as(sql, dialect).ok()).ok_or(error),
    }
}

fn parse_as(sql: &str, dialect: &dyn Dialect) -> Result<Statement> {
    let mut statements = DFParserBuilder::new(sql).with_dialect(dialect).build()?.parse_statements()?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (None, _) => Err(DataFusionError::Plan("there is no SQL in it".to_owned())),
        _ => Err(DataFusionError::Plan("there is more than one statement in it".to_owned())),
    }
}
