//! Which rows of a model take part in a publication, and which of them have to wait.

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use tidemill_lake::{ColumnStats, DataFile, RowFilter, Table};

use crate::error::Cause;
use crate::request::FINAL_COLUMN;
use crate::{Emit, Error, Publication, Result};

/// Whether a row that takes part may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It may.
    No,
    /// Only if readers do not know its key yet; else what they have stands.
    Updates,
    /// Not yet.
    All,
}

/// Looks at rows of a model before they are compared.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    filter: Option<RowFilter>,
    gate: Option<Gate>,
    columns: Vec<String>,
}

#[derive(Clone, Debug)]
enum Gate {
    /// Held until W reaches the end of the row's window.
    Closed { column: String, watermark_us: Option<i64>, hold: Hold },
    /// Held until the row says that it is final.
    Final,
}

impl Judge {
    /// The judge of the model's newest rows; `None` when every row takes part at once.
    ///
    /// # Errors
    /// Kind `Configuration` for a condition or a gate over columns that are not there.
    pub(crate) fn of_rows(
        publication: &Publication,
        model: &Table,
        watermark_us: Option<i64>,
    ) -> Result<Option<Self>> {
        let gate = publication.messages.as_ref().and_then(|messages| {
            let closed = |hold| Gate::Closed { column: messages.window_end.clone(), watermark_us, hold };
            match messages.emit {
                Emit::OnChange => None,
                Emit::OnClose => Some(closed(Hold::All)),
                Emit::Alert => Some(closed(Hold::Updates)),
                Emit::OnFinal => Some(Gate::Final),
            }
        });
        Self::new(publication, model, gate)
    }

    /// The judge of rows that were published before: whether they took part at all.
    pub(crate) fn of_old_rows(publication: &Publication, model: &Table) -> Result<Option<Self>> {
        Self::new(publication, model, None)
    }

    fn new(publication: &Publication, model: &Table, gate: Option<Gate>) -> Result<Option<Self>> {
        let schema = model.schema();
        let filter = match &publication.filter {
            Some(condition) => Some(
                RowFilter::parse(condition, &schema)
                    .map_err(|error| Error::lake("read the condition `where`", publication)(error).at(&publication.location))?,
            ),
            None => None,
        };
        let mut columns: Vec<String> = filter.iter().flat_map(|filter| filter.columns().to_vec()).collect();
        match &gate {
            Some(Gate::Closed { column, .. }) => columns.push(column.clone()),
            Some(Gate::Final) => columns.push(FINAL_COLUMN.to_owned()),
            None => {}
        }
        if let Some(column) = columns.iter().find(|column| schema.column_with_name(column).is_none()) {
            let (model, column) = (publication.model_name.clone(), column.clone());
            return Err(Error::new(Cause::NoColumn { model, column }).at(&publication.location));
        }
        Ok((filter.is_some() || gate.is_some()).then_some(Self { filter, gate, columns }))
    }

    /// Columns of the model that it looks at.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// One verdict per row; `None` means that the row is as if it did not exist.
    pub(crate) fn judge(&self, rows: &RecordBatch, publication: &Publication) -> Result<Vec<Option<Hold>>> {
        let keep = match &self.filter {
            Some(filter) => filter.keep(rows).map_err(Error::lake("evaluate the condition `where`", publication))?,
            None => BooleanArray::from(vec![true; rows.num_rows()]),
        };
        let held = self.held(rows).map_err(Error::arrow(publication))?;
        Ok((0..rows.num_rows()).map(|row| keep.value(row).then(|| held.as_ref().map_or(Hold::No, |held| held[row]))).collect())
    }

    fn held(&self, rows: &RecordBatch) -> Result<Option<Vec<Hold>>, arrow::error::ArrowError> {
        let column = |name: &str| {
            rows.column_by_name(name)
                .ok_or_else(|| arrow::error::ArrowError::SchemaError(format!("column `{name}` was not read")))
        };
        Ok(match &self.gate {
            None => None,
            Some(Gate::Closed { column: name, watermark_us, hold }) => {
                let ends = cast(column(name)?, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
                let ends = ends.as_primitive::<TimestampMicrosecondType>();
                let is_open = |end: i64| watermark_us.is_none_or(|watermark_us| end > watermark_us);
                // A row without an end has nothing to wait for.
                Some(ends.iter().map(|end| if end.is_some_and(is_open) { *hold } else { Hold::No }).collect())
            }
            Some(Gate::Final) => {
                let flags = cast(column(FINAL_COLUMN)?, &DataType::Boolean)?;
                let is_final = |flag: Option<bool>| if flag == Some(true) { Hold::No } else { Hold::All };
                Some(flags.as_boolean().iter().map(is_final).collect())
            }
        })
    }

    /// Whether `file` may hold rows that had to wait at `base_us` and need no longer: their windows end behind it.
    ///
    /// That a row becomes final changes the row, so its file is among the changed ones anyway.
    pub(crate) fn may_release(&self, file: &DataFile, base_us: Option<i64>) -> bool {
        match (&self.gate, base_us) {
            (Some(Gate::Closed { column, watermark_us, .. }), base_us) if *watermark_us > base_us => {
                let last_us = file.stats.get(column).and_then(greatest_us);
                base_us.is_none() || last_us.is_none() || last_us > base_us
            }
            _ => false,
        }
    }
}

/// The greatest instant of a column by the log's statistics, rounded up: they may be cut to milliseconds.
fn greatest_us(stats: &ColumnStats) -> Option<i64> {
    let text = stats.max.as_ref()?.as_str()?;
    let instant = chrono::DateTime::parse_from_rfc3339(text).map(|at| at.timestamp_micros()).ok();
    let day = || {
        let day: chrono::NaiveDate = text.parse().ok()?;
        Some(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros())
    };
    instant.or_else(day).map(|us| us.saturating_add(1_000))
}
