//! Names of types that warehouses share and our dialect does not have.

use datafusion::sql::sqlparser::ast::{DataType, ExactNumberInfo, TimezoneInfo};

/// Gives a type the name under which our dialect knows it.
pub(super) fn rewrite(data_type: &mut DataType) {
    let new = match data_type {
        // Four bytes are a surprise everywhere but here.
        DataType::Float(_) | DataType::Float64 | DataType::Double(_) => DataType::DoublePrecision,
        DataType::Int64 => DataType::BigInt(None),
        DataType::Varchar(_)
        | DataType::Char(_)
        | DataType::Nvarchar(_)
        | DataType::CharacterVarying(_)
        | DataType::CharVarying(_)
        | DataType::Character(_)
        | DataType::Clob(_)
        | DataType::String(_)
        | DataType::Uuid
        | DataType::JSON
        | DataType::JSONB => DataType::Text,
        DataType::Datetime(_) | DataType::Datetime64(..) | DataType::TimestampNtz(_) => {
            DataType::Timestamp(Some(6), TimezoneInfo::None)
        }
        DataType::Timestamp(Some(precision), zone) if ![0, 3, 6, 9].contains(precision) => {
            DataType::Timestamp(Some(6), *zone)
        }
        DataType::BigNumeric(info) | DataType::BigDecimal(info) => DataType::Decimal(*info),
        DataType::Blob(_) | DataType::Binary(_) | DataType::Varbinary(_) | DataType::Bytes(_) => DataType::Bytea,
        DataType::Custom(name, modifiers) => {
            let name = name.to_string().to_ascii_lowercase();
            let number = |index: usize| modifiers.get(index).and_then(|text| text.trim().parse::<i64>().ok());
            match name.as_str() {
                "number" | "numeric" | "hugeint" => DataType::Decimal(match (number(0), number(1)) {
                    (Some(precision), Some(scale)) => {
                        ExactNumberInfo::PrecisionAndScale(u64::try_from(precision).unwrap_or(38), scale)
                    }
                    (Some(precision), None) => ExactNumberInfo::Precision(u64::try_from(precision).unwrap_or(38)),
                    // Snowflake's `number` holds whole numbers.
                    (None, _) => ExactNumberInfo::PrecisionAndScale(38, 0),
                }),
                "timestamp_ntz" | "timestampntz" | "timestamp_ltz" | "timestampltz" | "smalldatetime" | "datetime2" => {
                    DataType::Timestamp(Some(6), TimezoneInfo::None)
                }
                "timestamp_tz" => DataType::Timestamp(Some(6), TimezoneInfo::WithTimeZone),
                "string" | "variant" | "object" | "super" | "uniqueidentifier" | "json" => DataType::Text,
                "int64" | "byteint" | "long" => DataType::BigInt(None),
                "int32" => DataType::Integer(None),
                "float64" => DataType::DoublePrecision,
                _ => return,
            }
        }
        _ => return,
    };
    *data_type = new;
}
