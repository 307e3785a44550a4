//! Writes records to JSONL files, one a topic.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::record::{Record, SinkError};

/// Bytes that are gathered before a file is written to.
const BUFFER_BYTES: usize = 1 << 20;

/// A folder with one file a topic, `<topic>.jsonl`.
#[derive(Debug)]
pub struct FileWriter {
    dir: PathBuf,
    files: BTreeMap<&'static str, BufWriter<File>>,
}

impl FileWriter {
    /// Makes the folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(dir: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), files: BTreeMap::new() })
    }

    /// Appends a record's value as a line; a record that nobody may read is left out.
    ///
    /// # Errors
    /// When a file cannot be made or written.
    pub fn write(&mut self, record: &Record) -> Result<(), SinkError> {
        if record.is_aborted {
            return Ok(());
        }
        let file = match self.files.entry(record.topic) {
            std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let path = self.dir.join(format!("{}.jsonl", record.topic));
                place.insert(BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?))
            }
        };
        file.write_all(&record.value)?;
        file.write_all(b"\n")?;
        Ok(())
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(mut self) -> std::io::Result<()> {
        self.files.values_mut().try_for_each(Write::flush)
    }
}
