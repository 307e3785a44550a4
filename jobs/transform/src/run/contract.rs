//! What YAML promises about a model's columns, held against what its SQL gives.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, Schema};
use datafusion::prelude::SessionContext;
use tidemill_project::error::{nearest, slip_of};
use tidemill_project::{ErrorCode, Fault};

use super::session::{sql_type, type_hint};
use super::{BuildFault, Result};
use crate::project::{Column, Model, NodeId};

/// A column that YAML declares and the SQL does not give, or the other way round.
const COLUMN: ErrorCode = ErrorCode(359);
/// Rows or types that break a contract.
const CONTRACT: ErrorCode = ErrorCode(360);

/// Holds the declared columns against those of the query.
///
/// A column that does not exist is a fault when somebody relies on it (a type, a constraint, a test, an enforced contract),
/// when it is a slip of one that does exist, and always in a project that is ours (`strict`). Else it is documentation that has
/// gone stale, as many a public project has some and dbt lets it pass; then nothing is said.
pub(super) async fn check(model: &Model, columns: &Schema, context: &SessionContext, strict: bool) -> Vec<Fault> {
    let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    let enforced = model.config.contract_enforced;
    let mut faults = Vec::new();
    for column in model.columns.values() {
        let found = columns.fields().iter().find(|field| field.name().eq_ignore_ascii_case(&column.name));
        match found {
            None => faults.extend(missing(column, &names, strict || enforced)),
            Some(field) if enforced => faults.extend(wrong_type(column, field.data_type(), context).await),
            Some(_) => {}
        }
    }
    if enforced {
        for name in names.iter().filter(|name| !model.columns.keys().any(|known| known.eq_ignore_ascii_case(name))) {
            faults.push(
                Fault::new(format!(
                    "the contract does not name a column of the model, column=`{name}`, model=`{}`",
                    model.name
                ))
                .at(model.location.clone())
                .code(CONTRACT.0)
                .hint("add it to `columns` with its `data_type`, or leave it out of the model"),
            );
        }
    }
    faults
}

fn missing(column: &Column, names: &[&str], strict: bool) -> Option<Fault> {
    let near = nearest(&column.name, names.iter().copied());
    // A test of it fails by itself, with its place, as in dbt.
    let relied_on = column.data_type.is_some() || !column.constraints.is_empty();
    if !strict && !relied_on && slip_of(&column.name, names.iter().copied()).is_none() {
        return None;
    }
    let hint = match near {
        Some(near) => format!("the model produces `{near}`; rename one of them"),
        None => format!("the model produces: {}", names.join(", ")),
    };
    let message = format!("column `{}` is declared in YAML but the model does not produce it", column.name);
    Some(Fault::new(message).at(column.location.clone()).code(COLUMN.0).hint(hint))
}

async fn wrong_type(column: &Column, found: &DataType, context: &SessionContext) -> Option<Fault> {
    let at = |message: String| Fault::new(message).at(column.location.clone()).code(CONTRACT.0);
    let Some(declared) = &column.data_type else {
        return Some(
            at(format!("the contract needs the type of a column, column=`{}`", column.name))
                .hint(format!("add data_type: {}", super::ask::type_name(found))),
        );
    };
    let Some(wanted) = sql_type(context, declared).await else {
        let unknown = at(format!("type is not known, column=`{}`, data_type=`{declared}`", column.name));
        return Some(unknown.hint(type_hint(declared)));
    };
    (family(&wanted) != family(found)).then(|| {
        let found = super::ask::type_name(found);
        at(format!(
            "the model gives another type than the contract says, column=`{}`, data_type=`{declared}`, found=`{found}`",
            column.name
        ))
        .hint(format!("cast it in the model, or say data_type: {found}"))
    })
}

/// dbt does not compare lengths and precisions either.
fn family(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => "integer",
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "float",
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            "decimal"
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Boolean => "boolean",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Timestamp(..) => "timestamp",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary",
        DataType::List(_) | DataType::LargeList(_) => "list",
        DataType::Struct(_) => "struct",
        _ => "other",
    }
}

/// Holds rows that are about to be written against the constraints of a model whose contract is enforced: `not_null`, `primary_key` (its
/// nulls) and `check`.
pub(super) async fn enforce(model: &Model, rows: &RecordBatch, context: &SessionContext) -> Result<()> {
    let broken = |constraint: String, rows: u64| BuildFault::Constraint {
        model: model.name.clone(),
        constraint,
        rows,
        location: model.location.clone(),
    };
    for column in model.columns.values() {
        let not_null = column.constraints.iter().any(|found| matches!(found.kind.as_str(), "not_null" | "primary_key"));
        if not_null
            && let Some(values) = rows.column_by_name(&column.name)
            && values.null_count() > 0
        {
            return Err(broken(format!("{} is not null", column.name), values.null_count() as u64));
        }
    }
    for constraint in model.constraints.iter().filter(|found| found.kind == "primary_key") {
        for column in &constraint.columns {
            if let Some(values) = rows.column_by_name(column).filter(|values| values.null_count() > 0) {
                return Err(broken(format!("{column} is not null"), values.null_count() as u64));
            }
        }
    }
    let checks = model.columns.values().flat_map(|column| &column.constraints).chain(&model.constraints);
    let node = NodeId::Model(model.name.clone());
    for condition in checks.filter(|found| found.kind == "check").filter_map(|found| found.expression.as_deref()) {
        let table = context.read_batch(rows.clone()).map_err(BuildFault::plan(&node, None))?;
        let context = super::session::beside(context);
        context.register_table("rows", table.into_view()).map_err(BuildFault::plan(&node, None))?;
        let sql = format!("select count(*) as broken from rows where not ({condition})");
        let counted =
            crate::sql::plan(&context, &sql).await.map_err(BuildFault::plan(&node, Some(model.location.clone())))?;
        let counted = counted.collect().await.map_err(BuildFault::execute(&node, Some(model.location.clone())))?;
        let count = counted.first().map_or(0, |rows| rows.column(0).as_primitive::<Int64Type>().value(0));
        if count > 0 {
            return Err(broken(condition.to_owned(), count.unsigned_abs()));
        }
    }
    Ok(())
}
