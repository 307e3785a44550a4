//! `date_trunc` that takes an instant in UTC for the count since the epoch that it is.
//!
//! DataFusion's own takes every zone that is named for one whose clock may change, "UTC" too, and goes through a calendar for
//! each value: five times the cost of a division. All instants of the lake are in UTC, and everybody writes
//! `date_trunc('hour', event_at)`.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{
    DataType, FieldRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use datafusion::common::Result;
use datafusion::functions::datetime;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// DataFusion's `date_trunc` with a shorter way through UTC.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateTrunc {
    inner: Arc<ScalarUDF>,
}

impl Default for DateTrunc {
    fn default() -> Self {
        Self { inner: datetime::date_trunc() }
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        self.inner.return_type(given)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = match args.args.get(1) {
            Some(ColumnarValue::Array(instants)) => utc_of(instants.data_type()),
            _ => None,
        };
        let (Some(zone), Some(ColumnarValue::Array(instants))) = (zone, args.args.get_mut(1)) else {
            return self.inner.invoke_with_args(args);
        };
        *instants = in_zone(instants, None);
        match self.inner.invoke_with_args(args)? {
            ColumnarValue::Array(truncated) => Ok(ColumnarValue::Array(in_zone(&truncated, Some(zone)))),
            one @ ColumnarValue::Scalar(_) => Ok(one),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// The zone of a type of instants, when it is UTC by one of its names.
fn utc_of(data_type: &DataType) -> Option<Arc<str>> {
    match data_type {
        DataType::Timestamp(_, Some(zone)) if matches!(&**zone, "UTC" | "Etc/UTC" | "+00:00" | "Z") => {
            Some(Arc::clone(zone))
        }
        _ => None,
    }
}

/// The same counts since the epoch under another zone; no value is touched.
fn in_zone(instants: &ArrayRef, zone: Option<Arc<str>>) -> ArrayRef {
    match instants.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            Arc::new(instants.as_primitive::<TimestampSecondType>().clone().with_timezone_opt(zone))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Arc::new(instants.as_primitive::<TimestampMillisecondType>().clone().with_timezone_opt(zone))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Arc::new(instants.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(zone))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Arc::new(instants.as_primitive::<TimestampNanosecondType>().clone().with_timezone_opt(zone))
        }
        _ => Arc::clone(instants),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{RecordBatch, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, Schema};
    use datafusion::prelude::SessionContext;
    use proptest::prelude::*;

    use super::*;

    async fn truncated(ctx: &SessionContext, unit: &str, zone: &str, instants: &[Option<i64>]) -> RecordBatch {
        let zone: Option<Arc<str>> = (!zone.is_empty()).then(|| zone.into());
        let data_type = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
        let column = TimestampMicrosecondArray::from(instants.to_vec()).with_timezone_opt(zone);
        let schema = Arc::new(Schema::new(vec![Field::new("at", data_type, true)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap();
        let frame = ctx.read_batch(rows).unwrap();
        let call = frame.parse_sql_expr(&format!("date_trunc('{unit}', at)")).unwrap();
        frame.select(vec![call.alias("at")]).unwrap().collect().await.unwrap().remove(0)
    }

    proptest! {
        /// Every unit, zone and instant gives what DataFusion's own function gives, in the same type.
        #[test]
        fn the_shorter_way_comes_to_the_same_end(
            instants in prop::collection::vec(prop::option::of(-9_000_000_000_000_000..9_000_000_000_000_000_i64), 1..40),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (own, theirs) = (SessionContext::new(), SessionContext::new());
            own.register_udf(ScalarUDF::from(DateTrunc::default()));
            for zone in ["UTC", "+00:00", "Europe/Berlin", "Asia/Kolkata", ""] {
                for unit in ["year", "quarter", "month", "week", "day", "hour", "minute", "second", "millisecond"] {
                    let given = runtime.block_on(truncated(&own, unit, zone, &instants));
                    let wanted = runtime.block_on(truncated(&theirs, unit, zone, &instants));
                    prop_assert_eq!(given, wanted, "{} in {:?}", unit, zone);
                }
            }
        }
    }
}
