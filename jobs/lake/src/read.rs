//! Reading files directly, without planning a query.

use arrow::array::RecordBatch;
use futures::stream::BoxStream;

use crate::{DataFile, Result, Table};

impl Table {
    /// Reads columns of some files (live or not yet vacuumed), partition columns included, in batches of at most 8,192 rows,
    /// file after file. `columns = None` reads all columns of the table; a column that a file lacks is null.
    pub fn read_files(&self, files: Vec<DataFile>, columns: Option<Vec<String>>) -> BoxStream<'static, Result<RecordBatch>> {
        let _ = (files, columns);
        unimplemented!()
    }

    /// Asks the bloom filter of `column` in one file which of `values` it may hold. A file without a filter may hold all.
    pub async fn may_contain(&self, file: &DataFile, column: &str, values: &[&str]) -> Result<Vec<bool>> {
        let _ = (file, column, values);
        unimplemented!()
    }
}
