//! Records of a file, one JSON object after the other, whatever the format.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tidemill_project::contract::{ColumnType, Contract};

use crate::Result;
use crate::error::Cause;

/// Bytes that a reader holds ahead.
const BUFFER_BYTES: usize = 1 << 18;

/// The records of one file, in order.
pub(super) struct Records {
    path: PathBuf,
    num_read: u64,
    form: Form,
}

enum Form {
    Lines(Box<dyn BufRead>),
    Csv(Box<CsvRows>),
    Batches(Box<BatchRows>),
}

struct CsvRows {
    reader: csv::Reader<Box<dyn Read>>,
    columns: Vec<CsvColumn>,
    row: csv::ByteRecord,
}

/// A column of the file: its name as JSON text, and whether its values may stand bare.
struct CsvColumn {
    name: String,
    is_bare: bool,
}

/// Rows of a format that is read into columns.
struct BatchRows {
    /// The format's name, for messages.
    format: &'static str,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>,
    /// Rows of the batch that is being handed out, one JSON object a line.
    lines: std::io::Cursor<Vec<u8>>,
}

impl Records {
    /// Opens a file; the ending tells the format and the compression.
    pub(super) fn open(path: &Path, contract: &Contract) -> Result<Self> {
        let read_error = |source| Cause::ReadFile { path: path.to_owned(), source };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
        let file = File::open(path).map_err(read_error)?;
        let (name, bytes): (&str, Box<dyn Read>) = if let Some(name) = name.strip_suffix(".gz") {
            (name, Box::new(MultiGzDecoder::new(file)))
        } else if let Some(name) = name.strip_suffix(".zst") {
            (name, Box::new(zstd::Decoder::new(file).map_err(read_error)?))
        } else {
            (&name, Box::new(file))
        };
        let form = match name.rsplit('.').next().unwrap_or_default() {
            "jsonl" | "ndjson" | "json" => Form::Lines(Box::new(BufReader::with_capacity(BUFFER_BYTES, bytes))),
            "csv" => Form::Csv(Box::new(CsvRows::open(path, bytes, contract)?)),
            "parquet" => Form::Batches(Box::new(BatchRows::open_parquet(path, bytes)?)),
            "avro" => Form::Batches(Box::new(BatchRows::open_avro(path, bytes)?)),
            _ => return Err(Cause::FileEnding { path: path.to_owned() }.into()),
        };
        Ok(Self { path: path.to_owned(), num_read: 0, form })
    }

    /// Reads the next record into `buffer`. `false` at the end. Blank lines are no records.
    ///
    /// # Errors
    /// When the file cannot be read on: broken compression, a Parquet page that does not decode. A line or row that is not
    /// what it should be is no error: its bytes come as they are, and the decoder refuses them.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> Result<bool> {
        buffer.clear();
        let is_there = match &mut self.form {
            Form::Lines(lines) => read_line(lines.as_mut(), buffer)
                .map_err(|source| Cause::ReadFile { path: self.path.clone(), source })?,
            Form::Csv(rows) => rows.read(buffer).map_err(|source| Cause::FileFormat {
                path: self.path.clone(),
                format: "CSV",
                record: self.num_read,
                source: Box::new(source),
            })?,
            Form::Batches(rows) => rows.read(buffer).map_err(|source| Cause::FileFormat {
                path: self.path.clone(),
                format: rows.format,
                record: self.num_read,
                source: Box::new(source),
            })?,
        };
        self.num_read += u64::from(is_there);
        Ok(is_there)
    }
}

fn read_line(lines: &mut dyn BufRead, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        buffer.clear();
        if lines.read_until(b'\n', buffer)? == 0 {
            return Ok(false);
        }
        while buffer.last().is_some_and(u8::is_ascii_whitespace) {
            buffer.pop();
        }
        if !buffer.is_empty() {
            return Ok(true);
        }
    }
}

impl CsvRows {
    fn open(path: &Path, bytes: Box<dyn Read>, contract: &Contract) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).buffer_capacity(BUFFER_BYTES).from_reader(bytes);
        let header = reader.headers().map_err(|source| Cause::FileFormat {
            path: path.to_owned(),
            format: "CSV",
            record: 0,
            source: Box::new(source),
        })?;
        let columns = header
            .iter()
            .map(|name| {
                let means = |path: &Vec<String>| matches!(path.as_slice(), [only] if only == name);
                let column = contract.columns.iter().find(|column| column.paths.iter().any(means));
                let is_text = |data_type: &ColumnType| {
                    matches!(data_type, ColumnType::Text | ColumnType::Date | ColumnType::Timestamp)
                };
                CsvColumn {
                    name: serde_json::Value::from(name).to_string(),
                    is_bare: column.is_some_and(|column| !is_text(&column.data_type)),
                }
            })
            .collect();
        Ok(Self { reader, columns, row: csv::ByteRecord::new() })
    }

    /// Writes the next row as a JSON object. CSV has no types, so the contract's column decides whether a value stands bare
    /// (numbers, booleans, JSON) or as a text; an empty field is absent. A row of another width, or one that is not UTF-8,
    /// comes as its fields with commas between, which is no JSON.
    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<bool, csv::Error> {
        if !self.reader.read_byte_record(&mut self.row)? {
            return Ok(false);
        }
        let texts: Option<Vec<&str>> = self.row.iter().map(|field| std::str::from_utf8(field).ok()).collect();
        let Some(texts) = texts.filter(|texts| texts.len() == self.columns.len()) else {
            for (number, field) in self.row.iter().enumerate() {
                buffer.extend_from_slice(if number > 0 { b"," } else { b"" });
                buffer.extend_from_slice(field);
            }
            return Ok(true);
        };
        buffer.push(b'{');
        for (column, text) in self.columns.iter().zip(texts) {
            if text.is_empty() {
                continue;
            }
            buffer.extend_from_slice(if buffer.len() > 1 { b"," } else { b"" });
            buffer.extend_from_slice(column.name.as_bytes());
            buffer.push(b':');
            if column.is_bare && serde_json::from_str::<&serde_json::value::RawValue>(text.trim()).is_ok() {
                buffer.extend_from_slice(text.trim().as_bytes());
            } else {
                buffer.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
            }
        }
        buffer.push(b'}');
        Ok(true)
    }
}

impl BatchRows {
    fn new(format: &'static str, batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + 'static) -> Self {
        Self { format, batches: Box::new(batches), lines: std::io::Cursor::default() }
    }

    /// A compressed file is unpacked in memory: Parquet is read from its end.
    fn open_parquet(path: &Path, mut bytes: Box<dyn Read>) -> Result<Self> {
        let mut content = Vec::new();
        bytes.read_to_end(&mut content).map_err(|source| Cause::ReadFile { path: path.to_owned(), source })?;
        let format_error = |source: parquet::errors::ParquetError| Cause::FileFormat {
            path: path.to_owned(),
            format: "Parquet",
            record: 0,
            source: Box::new(source),
        };
        let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(content)).map_err(format_error)?;
        Ok(Self::new("Parquet", builder.with_batch_size(1024).build().map_err(format_error)?))
    }

    /// An Avro container file, which holds its schema; its blocks must not be compressed, the file as a whole may be.
    fn open_avro(path: &Path, bytes: Box<dyn Read>) -> Result<Self> {
        let bytes = BufReader::with_capacity(BUFFER_BYTES, bytes);
        let reader = arrow_avro::reader::ReaderBuilder::new().with_batch_size(1024).build(bytes);
        let format_error =
            |source| Cause::FileFormat { path: path.to_owned(), format: "Avro", record: 0, source: Box::new(source) };
        Ok(Self::new("Avro", reader.map_err(format_error)?))
    }

    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<bool, ArrowError> {
        loop {
            if read_line(&mut self.lines, buffer)? {
                return Ok(true);
            }
            let Some(batch) = self.batches.next() else { return Ok(false) };
            self.lines = std::io::Cursor::new(to_json_lines(&batch?)?);
        }
    }
}

fn to_json_lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}
