//! A reader of one Delta table that follows its log: the sum of an integer column, version by version.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};
use arrow::array::AsArray;
use arrow::compute::sum;
use arrow::datatypes::Int64Type;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// Where the reader stands.
#[derive(Debug)]
pub(crate) struct Mart {
    folder: PathBuf,
    column: &'static str,
    next_version: u64,
    /// Sum of the column, by file that is live.
    files: HashMap<String, i64>,
}

impl Mart {
    pub(crate) fn new(folder: PathBuf, column: &'static str) -> Self {
        Self { folder, column, next_version: 0, files: HashMap::new() }
    }

    /// Moves to the newest version; the sum over the whole table when there is a new one.
    pub(crate) fn follow(&mut self) -> Result<Option<i64>> {
        let before = self.next_version;
        loop {
            let path = self.folder.join(format!("_delta_log/{:020}.json", self.next_version));
            let log = match fs::read_to_string(path) {
                Ok(log) => log,
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(error.into()),
            };
            for line in log.lines() {
                let action: Value = serde_json::from_str(line)?;
                if let Some(path) = action["remove"]["path"].as_str() {
                    self.files.remove(path);
                }
                if let Some(path) = action["add"]["path"].as_str() {
                    let sum = self.sum_of(path)?;
                    self.files.insert(path.to_owned(), sum);
                }
            }
            self.next_version += 1;
        }
        Ok((self.next_version > before).then(|| self.files.values().sum()))
    }

    fn sum_of(&self, path: &str) -> Result<i64> {
        // Only blanks and colons of partition values are escaped in the shipped models.
        let plain = path.replace("%20", " ").replace("%3A", ":").replace("%25", "%");
        let file = File::open(self.folder.join(&plain)).with_context(|| format!("no such file: {plain}"))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), [self.column]);
        let mut total = 0;
        for batch in builder.with_projection(mask).build()? {
            let batch = batch?;
            total += sum(batch.column(0).as_primitive::<Int64Type>()).unwrap_or_default();
        }
        Ok(total)
    }
}
