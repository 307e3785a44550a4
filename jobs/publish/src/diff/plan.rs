//! From two versions to a [`ChangeSet`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemill_lake::{DataFile, LogCommit, Table, metadata::Act};
use tidemill_project::{Diagnostic, TableVersion};

use super::changes::ChangeSet;
use super::judge::Judge;
use super::shape::Shape;
use super::side::{PartitionValues, Side, SideFile};
use crate::sink::Position;
use crate::{Emit, Error, Publication, Result};

/// What to compare.
pub(crate) struct PlanRequest {
    pub(crate) publication: Publication,
    /// The model's table at the version to publish.
    pub(crate) model: Arc<Table>,
    /// Where the target stands.
    pub(crate) base: Option<Position>,
    /// The target's own rows, for a full comparison here; `None` leaves it to the sink.
    pub(crate) target: Option<Arc<Table>>,
    /// W of the model at its version, or of `base` when that was later: W never goes back.
    pub(crate) watermark_us: Option<i64>,
    /// Compare everything whatever `base` says.
    pub(crate) full: bool,
    /// Rows that did not change are written again.
    pub(crate) resend: bool,
    /// Keys held at once.
    pub(crate) max_keys: u64,
    /// Whether the sink asks for the hash that names the changed rows.
    pub(crate) names_rows: bool,
}

/// Compares and counts. Nothing is written.
pub(crate) async fn plan(request: PlanRequest) -> Result<ChangeSet> {
    let shape = Shape::resolve(&request.publication, &request.model)?;
    let mut request = request;
    // A target that is cut otherwise is laid anew, so all rows have to be sent.
    request.target = request.target.filter(|table| table.partition_columns() == shape.target_partition_columns());
    if request.publication.messages.is_some() {
        // Rows of another type cannot be compared; then everything counts as not sent.
        request.target = request.target.filter(|table| has_types_of(table, &shape));
    }
    let to = request.model.version();
    let same_table =
        request.base.as_ref().filter(|base| base.table_id == request.model.table_id() && base.version <= to);
    if let (Some(base), false) = (same_table, request.full) {
        if let Some(files) = replay(&request, base.version).await? {
            let Some(sides) = sides(&request, &shape, files, base)? else {
                tracing::warn!(
                    model = request.publication.model_name,
                    "what was sent before is not known, sending everything"
                );
                let parts = everything(&request, &shape)?;
                return ChangeSet::compute(&request, shape, parts, None).await;
            };
            match ChangeSet::compute(&request, shape.clone(), sides, Some(base.version)).await {
                Err(error) if !error.kind().is_retryable() && error.is_lake() => tracing::warn!(
                    model = request.publication.model_name,
                    from = base.version.0,
                    %error,
                    "old rows are not readable any more, comparing everything with the target"
                ),
                changes => return changes,
            }
        } else {
            tracing::warn!(
                model = request.publication.model_name,
                from = base.version.0,
                "the log does not tell what changed row by row since the published version, comparing everything with the target"
            );
        }
    }
    let parts = everything(&request, &shape)?;
    ChangeSet::compute(&request, shape, parts, None).await
}

fn has_types_of(table: &Table, shape: &Shape) -> bool {
    let known = table.schema();
    let differs = |field: &arrow::datatypes::FieldRef| {
        known.field_with_name(field.name()).is_ok_and(|found| found.data_type() != field.data_type())
    };
    !shape.schema.fields().iter().any(differs)
}

/// Files that went and came in `(from, to]`, within the partitions whose rows changed.
struct Turnover {
    gone: Vec<DataFile>,
    come: Vec<DataFile>,
    touched: BTreeSet<PartitionValues>,
}

async fn replay(request: &PlanRequest, from: TableVersion) -> Result<Option<Turnover>> {
    let (model, to) = (&request.model, request.model.version());
    let commits = match model.commits(Some(from), to).await {
        Ok(commits) => commits,
        Err(error) if error.is_version_gone() => return Ok(None),
        Err(error) => return Err(Error::lake("read the log", &request.publication)(error)),
    };
    // A build that gave the model other columns left no row as it was, and rows that look alike may be of another type.
    let is_reshaped = |commit: &LogCommit| commit.changes_schema && commit.data_change;
    if commits.iter().any(is_reshaped) {
        return Ok(None);
    }
    Ok(Some(turn_over(&commits)))
}

/// Compaction inside a touched partition takes part, because it exchanges the very files that a data change refers to; on
/// its own it touches nothing.
fn turn_over(commits: &[LogCommit]) -> Turnover {
    let mut gone: BTreeMap<&str, &DataFile> = BTreeMap::new();
    let mut come: BTreeMap<&str, &DataFile> = BTreeMap::new();
    let mut touched = BTreeSet::new();
    for commit in commits {
        for file in &commit.remove {
            if come.remove(file.path.as_str()).is_none() {
                gone.insert(&file.path, file);
            }
        }
        for file in &commit.add {
            if gone.remove(file.path.as_str()).is_none() {
                come.insert(&file.path, file);
            }
        }
        if commit.data_change {
            touched.extend(commit.add.iter().chain(&commit.remove).map(|file| file.partition_values.clone()));
        }
    }
    let keep = |files: BTreeMap<&str, &DataFile>| {
        files.into_values().filter(|file| touched.contains(&file.partition_values)).cloned().collect()
    };
    let (gone, come) = (keep(gone), keep(come));
    Turnover { gone, come, touched }
}

/// Both sides with their partitions numbered in common, ascending.
pub(super) struct Sides {
    pub(super) old: Side,
    pub(super) new: Side,
    pub(super) partitions: Vec<PartitionValues>,
}

/// The sides of an incremental comparison; `None` when the rows that were sent before are needed and not known.
///
/// Where a row leaves as soon as it changes, the model's own history tells what readers have. Where rows have to wait it does
/// not: then the rows that were sent are compared, within the partitions that changed or in which a window may have closed.
fn sides(request: &PlanRequest, shape: &Shape, files: Turnover, base: &Position) -> Result<Option<Sides>> {
    let judge = Judge::of_rows(&request.publication, &request.model, request.watermark_us)?;
    let waits = request.publication.messages.as_ref().is_some_and(|messages| messages.emit != Emit::OnChange);
    let columns = shape.model_columns.clone();
    if !waits {
        let number = Numbering::new(
            files.gone.into_iter().map(|file| (model_values(shape, &file), file)).collect(),
            files.come.into_iter().map(|file| (model_values(shape, &file), file)).collect(),
        );
        let old_judge = Judge::of_old_rows(&request.publication, &request.model)?;
        return Ok(Some(Sides {
            old: Side::new(Arc::clone(&request.model), number.old, columns.clone()).judged(old_judge),
            new: Side::new(Arc::clone(&request.model), number.new, columns).judged(judge),
            partitions: number.partitions,
        }));
    }
    let Some(sent) = &request.target else { return Ok(None) };
    let released = |file: &DataFile| judge.as_ref().is_some_and(|judge| judge.may_release(file, base.watermark_us));
    let wanted: BTreeSet<PartitionValues> = files
        .touched
        .iter()
        .map(|values| values_by(&shape.partition_columns, |(from, _)| values.get(from).cloned().flatten()))
        .chain(request.model.files().iter().filter(|file| released(file)).map(|file| model_values(shape, file)))
        .collect();
    let within = |files: Vec<DataFile>, values: &dyn Fn(&DataFile) -> PartitionValues| {
        files.into_iter().map(|file| (values(&file), file)).filter(|(values, _)| wanted.contains(values)).collect()
    };
    let number = Numbering::new(
        within(sent.files(), &|file| target_values(shape, file)),
        within(request.model.files(), &|file| model_values(shape, file)),
    );
    Ok(Some(Sides {
        old: Side::new(Arc::clone(sent), number.old, shape.target_columns()),
        new: Side::new(Arc::clone(&request.model), number.new, columns).judged(judge),
        partitions: number.partitions,
    }))
}

fn everything(request: &PlanRequest, shape: &Shape) -> Result<Sides> {
    let judge = Judge::of_rows(&request.publication, &request.model, request.watermark_us)?;
    let old = request.target.as_ref().map(|table| table.files()).unwrap_or_default();
    let number = Numbering::new(
        old.into_iter().map(|file| (target_values(shape, &file), file)).collect(),
        request.model.files().into_iter().map(|file| (model_values(shape, &file), file)).collect(),
    );
    let old = match &request.target {
        Some(table) => Side::new(Arc::clone(table), number.old, shape.target_columns()),
        None => Side::empty(),
    };
    Ok(Sides {
        old,
        new: Side::new(Arc::clone(&request.model), number.new, shape.model_columns.clone()).judged(judge),
        partitions: number.partitions,
    })
}

/// Partition values of a file of the model, under the target's names.
pub(super) fn model_values(shape: &Shape, file: &DataFile) -> PartitionValues {
    values_by(&shape.partition_columns, |(from, _)| file.partition_values.get(from).cloned().flatten())
}

fn target_values(shape: &Shape, file: &DataFile) -> PartitionValues {
    values_by(&shape.partition_columns, |(_, to)| file.partition_values.get(to).cloned().flatten())
}

fn values_by(columns: &[(String, String)], value: impl Fn(&(String, String)) -> Option<String>) -> PartitionValues {
    columns.iter().map(|pair| (pair.1.clone(), value(pair))).collect()
}

struct Numbering {
    partitions: Vec<PartitionValues>,
    old: Vec<SideFile>,
    new: Vec<SideFile>,
}

impl Numbering {
    fn new(old: Vec<(PartitionValues, DataFile)>, new: Vec<(PartitionValues, DataFile)>) -> Self {
        let all: BTreeSet<PartitionValues> = old.iter().chain(&new).map(|(values, _)| values.clone()).collect();
        let partitions: Vec<_> = all.into_iter().collect();
        let number = |files: Vec<(PartitionValues, DataFile)>| {
            files
                .into_iter()
                .map(|(values, file)| SideFile {
                    partition: partitions.binary_search(&values).expect("the list was made from these values"),
                    file,
                })
                .collect()
        };
        let (old, new) = (number(old), number(new));
        Self { partitions, old, new }
    }
}

/// W of the model at its newest build, when it has one.
pub(crate) async fn model_watermark(model: &Table, publication: &Publication) -> Result<Option<i64>> {
    let note = model
        .last_note(|note| matches!(note.act, Act::Transform(_)))
        .await
        .map_err(Error::lake("read the log", publication))?;
    Ok(note.and_then(|(_, note)| match note.act {
        Act::Transform(note) => note.watermark_us,
        _ => None,
    }))
}
