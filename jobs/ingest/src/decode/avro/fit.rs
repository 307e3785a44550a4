//! Whether a schema's fields fit the contract's columns: found out before the first record, and before a schema is released.

use tidemill_project::contract::{ColumnType, Contract, ContractColumn};

use super::schema::{Schema, Type, TypeId};

/// A column that a schema does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The contract's column.
    pub column: String,
    /// What is wrong: `reads a field that the schema does not have, field=`page``.
    pub problem: String,
}

/// The columns that records of `schema` cannot fill.
///
/// A column that reads one of several fields needs one of them. Nullable fields fit required columns: whether a value is
/// there is the record's business.
pub(crate) fn misfits(contract: &Contract, schema: &Schema) -> Vec<Misfit> {
    let problems = contract.columns.iter().filter_map(|column| Some((column, problem(column, schema)?)));
    problems.map(|(column, problem)| Misfit { column: column.name.clone(), problem }).collect()
}

/// The columns that objects of a JSON Schema cannot fill: those whose field is none of its `properties`. Types are left to the
/// records: a JSON Schema can say them in more ways than it is worth to understand.
pub(crate) fn json_misfits(contract: &Contract, schema: &str) -> Result<Vec<Misfit>, String> {
    let schema: serde_json::Value = serde_json::from_str(schema).map_err(|error| format!("is not JSON: {error}"))?;
    let Some(properties) = schema.get("properties") else { return Ok(Vec::new()) };
    let is_there = |path: &Vec<String>| path.first().is_some_and(|name| properties.get(name).is_some());
    let broken = contract.columns.iter().filter(|column| !paths_of(column).any(is_there));
    let misfit = |column: &ContractColumn| Misfit {
        column: column.name.clone(),
        problem: format!("reads a field that the schema does not have, field=`{}`", column.paths[0].join(".")),
    };
    Ok(broken.map(misfit).collect())
}

/// All paths that a column may read, whatever decides between them.
pub(crate) fn paths_of(column: &ContractColumn) -> impl Iterator<Item = &Vec<String>> {
    column.paths.iter().chain(column.paths_when.iter().flat_map(|when| &when.paths))
}

fn problem(column: &ContractColumn, schema: &Schema) -> Option<String> {
    let mut missing = None;
    let mut num_found = 0;
    for path in paths_of(column) {
        match find(schema, path) {
            Found::Value(of) => {
                num_found += 1;
                let wrong = schema.branches(of).into_iter().map(|branch| schema.get(branch));
                let wrong = wrong.filter(|of| !matches!(of, Type::Null)).find(|of| !fits(column, of));
                if let Some(wrong) = wrong {
                    let (field, wanted) = (path.join("."), describe(&column.data_type));
                    return Some(format!("is {wanted}, which cannot be read from a {}, field=`{field}`", wrong.name()));
                }
            }
            // What a map holds is known with the record alone.
            Found::Dynamic => num_found += 1,
            Found::Nothing => {
                missing.get_or_insert_with(|| path.join("."));
            }
        }
    }
    let missing = missing.filter(|_| num_found == 0)?;
    Some(format!("reads a field that the schema does not have, field=`{missing}`"))
}

enum Found {
    Value(TypeId),
    Dynamic,
    Nothing,
}

fn find(schema: &Schema, path: &[String]) -> Found {
    let mut at = schema.root();
    for name in path {
        let record = schema.branches(at).into_iter().find_map(|branch| match schema.get(branch) {
            Type::Record { fields, .. } => Some(Ok(fields)),
            Type::Map(_) => Some(Err(())),
            _ => None,
        });
        match record {
            Some(Ok(fields)) => match fields.iter().find(|field| field.name == *name) {
                Some(field) => at = field.of,
                None => return Found::Nothing,
            },
            Some(Err(())) => return Found::Dynamic,
            None => return Found::Nothing,
        }
    }
    Found::Value(at)
}

fn fits(column: &ContractColumn, of: &Type) -> bool {
    let is_number = matches!(of, Type::Integer | Type::Float | Type::Double | Type::Decimal { .. });
    let is_text = matches!(of, Type::Text | Type::Enum { .. } | Type::Bytes | Type::Fixed(_));
    let is_text_number = column.accept_text && matches!(of, Type::Text);
    match &column.data_type {
        ColumnType::Json => true,
        ColumnType::Text => is_text || matches!(of, Type::Timestamp { .. } | Type::Date),
        ColumnType::BigInt => {
            is_text_number
                || matches!(of, Type::Integer | Type::Timestamp { .. } | Type::Date)
                || (column.time_unit.is_some() && (is_number || matches!(of, Type::Text)))
        }
        ColumnType::Double | ColumnType::Decimal(..) => is_number || is_text_number,
        ColumnType::Boolean => is_text_number || matches!(of, Type::Boolean),
        ColumnType::Date => matches!(of, Type::Date | Type::Text),
        ColumnType::Timestamp => match of {
            Type::Timestamp { .. } | Type::Text => true,
            _ => is_number && column.time_unit.is_some(),
        },
        ColumnType::Struct(_) => matches!(of, Type::Record { .. } | Type::Map(_)),
        ColumnType::List(_) => matches!(of, Type::Array(_)),
    }
}

fn describe(data_type: &ColumnType) -> &'static str {
    match data_type {
        ColumnType::Text => "a text",
        ColumnType::BigInt => "a bigint",
        ColumnType::Double => "a double",
        ColumnType::Decimal(..) => "a decimal",
        ColumnType::Boolean => "a boolean",
        ColumnType::Date => "a date",
        ColumnType::Timestamp => "a timestamp",
        ColumnType::Json => "json",
        ColumnType::Struct(_) => "a struct",
        ColumnType::List(_) => "a list",
    }
}
