//! The last page of the books: what each sink holds of each model.

use std::sync::Arc;

use serde::Serialize;
use tidemill_lake::{Lake, Table};
use tidemill_project::TableVersion;
use tidemill_project::config::Settings;
use tokio_util::sync::CancellationToken;

use crate::publish::{by_kind, open_model, renamed, sink_of};
use crate::sink::{Position, Sink};
use crate::{Emit, Publication, Result, Strategy, Target};

/// Whether a sink's page adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PageState {
    /// The sink holds the model's rows, as far as was looked.
    Closed,
    /// The sink holds an older version, or none: the next publication sends the rest.
    Behind,
    /// The sink says that it holds this version, and does not.
    Open,
}

/// What one sink holds of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SinkPage {
    /// The model.
    pub model: String,
    /// The target under its final name.
    pub target: Target,
    /// `local`, `snowflake`, `kafka` or `redis`.
    pub sink: &'static str,
    /// Version of the model's table that the sink holds.
    pub version: Option<TableVersion>,
    /// Newest version of the model's table.
    pub newest: TableVersion,
    /// Rows of the model at its newest version, as the log counts them, or as the sink should hold them.
    pub model_rows: Option<u64>,
    /// Rows that the sink holds; `None` when it was not asked.
    pub held_rows: Option<u64>,
    /// Whether the two agree.
    pub state: PageState,
    /// A few lines that name what differs, for a person.
    pub examples: Vec<String>,
}

/// Opens the pages of `publications` whose models were built. Without `deep` only logs and notes are read, no row is; with it,
/// every row is held against what the sink shows.
///
/// # Errors
/// What the lake and the sinks answer.
pub async fn books(
    settings: &Settings,
    lake: &Lake,
    publications: &[Publication],
    deep: bool,
    cancel: &CancellationToken,
) -> Result<Vec<SinkPage>> {
    let mut pages = Vec::with_capacity(publications.len());
    for (kind, publications) in by_kind(publications) {
        let Some(sink) = sink_of(kind, settings, lake, &publications)? else { continue };
        let opened = async {
            for publication in publications.iter().map(|publication| renamed(publication, settings)) {
                if cancel.is_cancelled() {
                    break;
                }
                if let Some(model) = open_model(lake, &publication).await? {
                    pages.push(page(sink.as_ref(), &publication, model, deep).await?);
                }
            }
            Ok::<_, crate::Error>(())
        }
        .await;
        sink.close().await;
        opened?;
    }
    Ok(pages)
}

async fn page(sink: &dyn Sink, publication: &Publication, model: Table, deep: bool) -> Result<SinkPage> {
    let position = sink.position(publication).await?;
    let mut page = SinkPage {
        model: publication.model_name.clone(),
        target: publication.target.clone(),
        sink: sink.name(),
        version: position.as_ref().map(|position| position.version),
        newest: model.version(),
        model_rows: rows_of(&model),
        held_rows: None,
        state: PageState::Behind,
        examples: Vec::new(),
    };
    let holds = |position: &Position| position.table_id == model.table_id() && position.version == model.version();
    let Some(position) = position.filter(holds) else { return Ok(page) };
    if deep {
        let checked = sink.check(publication, Arc::new(model)).await?;
        page.state = if checked.is_equal() { PageState::Closed } else { PageState::Open };
        (page.model_rows, page.held_rows) = (Some(checked.model_rows), Some(checked.target_rows));
        page.examples = checked.examples;
        return Ok(page);
    }
    page.held_rows = sink.rows(publication, Some(&position)).await?.as_ref().and_then(rows_of);
    let agrees = match (page.model_rows, page.held_rows) {
        (Some(model_rows), Some(held_rows)) if is_one_to_one(publication) => model_rows == held_rows,
        (Some(model_rows), Some(held_rows)) => held_rows <= model_rows,
        _ => true,
    };
    page.state = if agrees { PageState::Closed } else { PageState::Open };
    Ok(page)
}

/// Whether the sink holds exactly the model's rows: no condition leaves any out, and none has to wait.
fn is_one_to_one(publication: &Publication) -> bool {
    let waits = publication.messages.as_ref().is_some_and(|messages| messages.emit != Emit::OnChange);
    publication.filter.is_none() && !waits && publication.strategy != Strategy::AppendOnly
}

/// Rows as the log counts them.
fn rows_of(table: &Table) -> Option<u64> {
    table.live_files().map(|file| file.num_records()).sum()
}
