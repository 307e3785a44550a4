//! Seeds: CSV files that become tables.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::display::FormatOptions;
use datafusion::prelude::SessionContext;
use serde::Serialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use tidemill_lake::metadata::TransformNote;
use tidemill_lake::{Lake, TableId};
use tidemill_project::error::nearest;
use tidemill_project::{Fault, Location};

use super::rows::{canonical, hex};
use super::session::{sql_type, type_hint};
use super::writer::{Target, Writer, Written};
use super::{BuildError, BuildFault, Result, Runner};
use crate::graph::Selection;
use crate::plan::{last_transform, table_of};
use crate::project::{NodeId, Project, Seed};

/// Types that a column without a declared one is tried as, narrowest first. Text takes the rest.
const INFERRED: [DataType; 5] = [
    DataType::Boolean,
    DataType::Int64,
    DataType::Float64,
    DataType::Date32,
    DataType::Timestamp(TimeUnit::Microsecond, None),
];
/// More faults of one file help nobody.
const MAX_FAULTS: usize = 20;

/// Loads a seed into its table. Does nothing when the table holds the file's content already.
///
/// An empty field is null. Columns without a declared type are boolean, integer, double, date or timestamp where all their
/// values are, else text.
///
/// # Errors
/// Ragged rows, values that are not of the declared type, unknown zone names: all of them, with file and line.
pub(crate) async fn load(
    project: &Project,
    seed: &Seed,
    table: TableId,
    lake: &Lake,
    context: &SessionContext,
    run_id: &str,
    full_refresh: bool,
) -> Result<Written> {
    let node = NodeId::Seed(seed.name.clone());
    let text = text_of(project, seed).await?;
    let fingerprint = fingerprint(seed, &text);
    let own = lake.open(&table).await.map_err(BuildFault::lake(&table))?;
    if let Some(own) = own.as_ref().filter(|_| !full_refresh) {
        let last = last_transform(own, &seed.name).await.map_err(BuildFault::lake(&table))?;
        if last.is_some_and(|note| note.model_fingerprint == fingerprint) {
            return Ok(Written::default());
        }
    }
    let rows = parse(project, seed, &text, context).await?;
    let target = Target {
        id: table,
        node: node.clone(),
        description: seed.description.trim(),
        columns: &rows.schema(),
        key: &[],
        keyed: false,
        event_time: None,
        batched: false,
        run_id,
    };
    let mut writer = Writer::begin(lake, target, own).await?;
    writer.replace(None, canonical(&rows, &[]).map_err(BuildFault::shape(&node))?).await?;
    let note = TransformNote { model: seed.name.clone(), model_fingerprint: fingerprint, ..TransformNote::default() };
    match writer.commit(note, false).await? {
        Some((written, _)) => Ok(written),
        None => Err(BuildFault::Contended { model: seed.name.clone(), attempts: 1 }),
    }
}

/// What a load would do with a seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SeedPlan {
    /// Its name.
    pub seed: String,
    /// Rows of its file.
    pub rows: u64,
    /// Whether its table holds something else, or does not exist yet.
    pub is_due: bool,
}

impl Runner {
    /// What loading the selected seeds would do. Their files are read and checked; nothing is written.
    ///
    /// # Errors
    /// The selection, the lake, and the faults of the first file that has some.
    pub async fn plan_seeds(&self, selection: &Selection, full_refresh: bool) -> Result<Vec<SeedPlan>, BuildError> {
        let context = self.engine.session();
        crate::udf::register_all(&context);
        let mut plans = Vec::new();
        for node in self.graph.select(selection)? {
            let NodeId::Seed(name) = &node else { continue };
            let (Some(seed), Some(table)) = (self.project.seeds.get(name), table_of(&self.project, &node)) else {
                continue;
            };
            let text = text_of(&self.project, seed).await?;
            let rows = parse(&self.project, seed, &text, &context).await?;
            let own = self.lake.open(&table).await.map_err(BuildFault::lake(&table))?;
            let held = match &own {
                Some(own) => last_transform(own, name).await.map_err(BuildFault::lake(&table))?,
                None => None,
            };
            let is_same = held.is_some_and(|note| note.model_fingerprint == fingerprint(seed, &text));
            plans.push(SeedPlan { seed: name.clone(), rows: rows.num_rows() as u64, is_due: full_refresh || !is_same });
        }
        Ok(plans)
    }
}

/// The rows of a seed's file, as [`load`] would store them.
pub(crate) async fn rows_of(project: &Project, seed: &Seed, context: &SessionContext) -> Result<RecordBatch> {
    parse(project, seed, &text_of(project, seed).await?, context).await
}

async fn text_of(project: &Project, seed: &Seed) -> Result<Vec<u8>> {
    if let Some(text) = &seed.text {
        return Ok(text.clone().into_bytes());
    }
    let node = NodeId::Seed(seed.name.clone());
    let path = seed.path.clone();
    tokio::task::spawn_blocking(move || std::fs::read(path))
        .await
        .map_err(|source| BuildFault::TaskLost { node, source })?
        .map_err(|source| BuildFault::ReadSeed { path: project.relative(&seed.path).display().to_string(), source })
}

fn fingerprint(seed: &Seed, text: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(text);
    for (column, data_type) in &seed.column_types {
        hasher.update(format!("\n{column}:{data_type}"));
    }
    hasher.update([seed.delimiter as u8]);
    hex(&hasher.finalize()[..16])
}

/// One value with the line that it stands in.
struct Cells {
    name: String,
    values: Vec<Option<String>>,
}

async fn parse(project: &Project, seed: &Seed, text: &[u8], context: &SessionContext) -> Result<RecordBatch> {
    let file = project.relative(&seed.path).to_path_buf();
    let fault = |line: usize, message: String| Fault::new(message).at(Location::new(&file, line, 0)).code(358);
    let (columns, lines) =
        split(seed, text, &fault).map_err(|faults| BuildFault::Seed { seed: seed.name.clone(), faults })?;
    let mut faults = Vec::new();
    for name in seed.column_types.keys() {
        if !columns.iter().any(|column| column.name.eq_ignore_ascii_case(name)) {
            let mut wrong =
                fault(1, format!("`column_types` names a column that the file does not have, column=`{name}`"));
            if let Some(near) = nearest(name, columns.iter().map(|column| column.name.as_str())) {
                wrong = wrong.hint(format!("did you mean `{near}`?"));
            }
            faults.push(wrong);
        }
    }
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for column in &columns {
        let texts: ArrayRef = Arc::new(StringArray::from(column.values.clone()));
        let data_type = match type_of(seed, &column.name) {
            Some(text) => {
                let Some(data_type) = sql_type(context, text).await else {
                    let unknown = fault(1, format!("type is not known, column=`{}`, data_type=`{text}`", column.name));
                    faults.push(unknown.hint(type_hint(text)));
                    continue;
                };
                data_type
            }
            None => infer(&texts),
        };
        let array = convert(&texts, &data_type);
        for (index, value) in column.values.iter().enumerate() {
            let Some(value) = value else { continue };
            if array.is_null(index) {
                let message = format!(
                    "value is not of its column's type, column=`{}`, value=`{value}`, data_type=`{data_type}`",
                    column.name
                );
                faults.push(fault(lines[index], message));
            } else if wants_zone(seed, &column.name) && value.parse::<chrono_tz::Tz>().is_err() {
                let mut wrong = fault(
                    lines[index],
                    format!("no time zone of that name, column=`{}`, value=`{value}`", column.name),
                );
                if let Some(near) = nearest(value, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())) {
                    wrong = wrong.hint(format!("did you mean `{near}`?"));
                }
                faults.push(wrong);
            }
        }
        fields.push(Field::new(&column.name, array.data_type().clone(), true));
        arrays.push(array);
    }
    if !faults.is_empty() {
        faults.truncate(MAX_FAULTS);
        return Err(BuildFault::Seed { seed: seed.name.clone(), faults });
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .map_err(BuildFault::shape(&NodeId::Seed(seed.name.clone())))
}

/// The declared type of a column: `column_types`, whatever the case of its name.
fn type_of<'a>(seed: &'a Seed, column: &str) -> Option<&'a String> {
    seed.column_types.iter().find(|(name, _)| name.eq_ignore_ascii_case(column)).map(|(_, data_type)| data_type)
}

/// Cuts the file into columns; the second part is the line of each row.
fn split(
    seed: &Seed,
    text: &[u8],
    fault: &dyn Fn(usize, String) -> Fault,
) -> Result<(Vec<Cells>, Vec<usize>), Vec<Fault>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader =
        csv::ReaderBuilder::new().delimiter(seed.delimiter as u8).flexible(true).has_headers(true).from_reader(text);
    let headers = match reader.headers() {
        Ok(headers) if headers.iter().any(|name| !name.trim().is_empty()) => headers.clone(),
        Ok(_) => return Err(vec![fault(1, "the file is empty; its first line must name the columns".to_owned())]),
        Err(error) => return Err(vec![fault(1, format!("the header cannot be read: {error}"))]),
    };
    // As SQL folds names that nobody quotes.
    let folded = |name: &str| if seed.quote_columns { name.trim().to_owned() } else { name.trim().to_lowercase() };
    let mut columns: Vec<Cells> = headers.iter().map(|name| Cells { name: folded(name), values: Vec::new() }).collect();
    let mut faults = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        if column.name.is_empty() || columns[..index].iter().any(|other| other.name == column.name) {
            faults.push(fault(1, format!("column names must be there and differ, column=`{}`", column.name)));
        }
    }
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, |position| usize::try_from(position.line()).unwrap_or(0));
                faults.push(fault(line, "the row is not UTF-8 text".to_owned()));
                continue;
            }
        };
        let line = record.position().map_or(0, |position| usize::try_from(position.line()).unwrap_or(0));
        // A row that ends in an empty field may leave more of them out, as spreadsheets do; nothing can be lost there.
        let is_cut = record.len() < columns.len() && record.len() > 1 && record.get(record.len() - 1) == Some("");
        if record.len() != columns.len() && !is_cut {
            let wrong = fault(
                line,
                format!(
                    "the row has another number of fields than the header, fields=`{}`, columns=`{}`",
                    record.len(),
                    columns.len()
                ),
            );
            faults.push(wrong.hint(format!(
                "write a delimiter for each empty field, and quotes around a field that holds one, delimiter=`{}`",
                seed.delimiter.escape_default()
            )));
            continue;
        }
        for (column, value) in columns.iter_mut().zip(record.iter().chain(std::iter::repeat(""))) {
            column.values.push((!value.is_empty()).then(|| value.to_owned()));
        }
        lines.push(line);
    }
    if faults.is_empty() {
        Ok((columns, lines))
    } else {
        faults.truncate(MAX_FAULTS);
        Err(faults)
    }
}

/// The type of a column of texts whose type nobody declares.
pub(crate) fn infer(texts: &ArrayRef) -> DataType {
    if texts.null_count() == texts.len() {
        return DataType::Utf8;
    }
    INFERRED
        .into_iter()
        .map(|data_type| match data_type {
            DataType::Timestamp(unit, _) => DataType::Timestamp(unit, Some("UTC".into())),
            other => other,
        })
        .find(|data_type| convert(texts, data_type).null_count() == texts.null_count() && looks_like(texts, data_type))
        .unwrap_or(DataType::Utf8)
}

/// Casts are more forgiving than people: `1` and `yes` are no booleans here, and a number with leading zeros is a code.
fn looks_like(texts: &ArrayRef, data_type: &DataType) -> bool {
    let Some(texts) = texts.as_any().downcast_ref::<StringArray>() else { return false };
    texts.iter().flatten().all(|text| match data_type {
        DataType::Boolean => text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"),
        DataType::Int64 | DataType::Float64 => {
            let digits = text.trim_start_matches('-').as_bytes();
            let is_code = digits.first() == Some(&b'0') && digits.get(1).is_some_and(u8::is_ascii_digit);
            !is_code && text.chars().all(|letter| letter.is_ascii_digit() || "+-.eE".contains(letter))
        }
        DataType::Date32 => text.len() == 10,
        _ => text.len() >= 14,
    })
}

fn convert(texts: &ArrayRef, data_type: &DataType) -> ArrayRef {
    let options = CastOptions { safe: true, format_options: FormatOptions::default() };
    let padded: ArrayRef;
    let texts = match (data_type, texts.as_any().downcast_ref::<StringArray>()) {
        (DataType::Timestamp(..), Some(given)) => {
            padded = Arc::new(given.iter().map(|text| text.map(whole_time)).collect::<StringArray>());
            &padded
        }
        _ => texts,
    };
    // A zone that a text leaves out is UTC (X3); a cast that fails leaves nulls, which the caller tells apart.
    cast_with_options(texts, data_type, &options)
        .unwrap_or_else(|_| arrow::array::new_null_array(data_type, texts.len()))
}

/// `2020-02-04 4:30:21` is half past four and `2020-02-04 16:30` the minute's beginning, as spreadsheets write them.
fn whole_time(text: &str) -> std::borrow::Cow<'_, str> {
    let Some((date, clock)) = text.get(..10).zip(text.get(11..)) else { return text.into() };
    let hour_is_short = clock.find(':') == Some(1);
    let has_no_seconds = clock.len() == if hour_is_short { 4 } else { 5 };
    if clock.find(':').is_none() || !(hour_is_short || has_no_seconds) {
        return text.into();
    }
    let (hour, seconds) = (if hour_is_short { "0" } else { "" }, if has_no_seconds { ":00" } else { "" });
    format!("{date} {hour}{clock}{seconds}").into()
}

fn wants_zone(seed: &Seed, column: &str) -> bool {
    let format = seed.columns.get(column).and_then(|column| {
        let nested = column.meta.get("tidemill").and_then(|meta| meta.get("text_format"));
        nested.or_else(|| column.meta.get("text_format"))
    });
    format.and_then(Json::as_str) == Some("time_zone")
}
