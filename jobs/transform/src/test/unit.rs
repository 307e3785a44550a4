//! Unit tests: the model's own SQL, on the production engine, over rows that are made up. Nothing is read from a lake.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use serde_json::Value as Json;
use tidemill_project::{Fault, Location};
use tokio_util::task::AbortOnDropHandle;

use super::compare::{Difference, Rows, compare};
use super::rows::{Shape, build, unknown_column};
use super::shapes::Shapes;
use crate::Error;
use crate::error::codes;
use crate::project::{Fixture, FixtureRow, Model, NodeId, UnitTest};
use crate::render::{ColumnFacts, Relation, Relations, RenderContext, SharedRelations, TableRows};
use crate::run::session::register;
use crate::run::{BuildFault, Result, Sessions, seed};

/// A unit test as it runs.
#[derive(Clone, Debug)]
pub(crate) struct CompiledUnit {
    /// The model's SQL, with the test's overrides.
    pub sql: String,
    /// Inputs that the SQL names.
    asked: BTreeSet<NodeId>,
    render: RenderContext,
}

/// Compiles a unit test's model.
///
/// # Errors
/// The template cannot be rendered.
pub(crate) fn compile(sessions: &Sessions, test: &UnitTest) -> Result<CompiledUnit> {
    let model = model_of(sessions, test)?;
    let overrides = &test.overrides;
    let render = RenderContext {
        incremental: overrides.is_incremental(),
        watermarks: overrides.watermarks.clone(),
        as_of_us: overrides.as_of_us.unwrap_or_default(),
        vars: overrides.vars.clone(),
        macros: overrides.macros.clone(),
        env: overrides.env_vars.clone(),
        ..RenderContext::default()
    };
    let noted = Arc::new(Noted { inner: sessions.compiler.relations(), asked: Mutex::default() });
    let relations: SharedRelations = Arc::<Noted>::clone(&noted);
    let sql = sessions.compiler.renderer().model(model, &render, &relations)?;
    let asked = noted.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(CompiledUnit { sql, asked, render })
}

/// Runs a unit test; `None` when the model makes what is expected.
///
/// # Errors
/// Inputs that are not given, rows that do not fit, SQL that does not plan or fails.
pub(crate) async fn run(sessions: &Sessions, test: &UnitTest) -> Result<Option<Difference>> {
    let model = model_of(sessions, test)?;
    let compiled = compile(sessions, test)?;
    let shapes = Shapes::new(sessions);
    let context = sessions.empty();
    let mut faults = Vec::new();
    for node in missing(sessions, model, test, &compiled) {
        if let NodeId::Seed(name) = &node
            && let Some(own) = sessions.project.seeds.get(name)
        {
            let rows = seed::rows_of(&sessions.project, own, &context).await?;
            show(sessions, &context, &node, rows)?;
            continue;
        }
        let what = if node == NodeId::Model(model.name.clone()) { "this".to_owned() } else { input_text(&node) };
        faults.push(
            Fault::new(format!("the model reads an input that is not given, input=`{what}`, in=`{}`", test.name))
                .at(test.location.clone())
                .code(codes::FIXTURE)
                .hint(format!("add it to `given:`, `- {{input: {what}, rows: []}}` for one without rows")),
        );
    }
    for given in &test.given {
        let rows = match (&given.rows, &given.input) {
            (Some(fixture), input) => {
                let shape = shapes.of(input).await?;
                match rows_of(sessions, fixture, &shape, &input_text(input), &compiled.render).await {
                    Ok(rows) => rows,
                    Err(BuildFault::Project(error)) => {
                        faults.extend(error.into_faults());
                        continue;
                    }
                    Err(fault) => return Err(fault),
                }
            }
            (None, NodeId::Seed(name)) => match sessions.project.seeds.get(name) {
                Some(own) => seed::rows_of(&sessions.project, own, &context).await?,
                None => continue,
            },
            (None, _) => continue,
        };
        show(sessions, &context, &given.input, rows)?;
    }
    if !faults.is_empty() {
        return Err(Error::from_faults(faults).into());
    }
    let node = NodeId::Model(model.name.clone());
    let place = Location::new(&model.path, 1, 1);
    let frame =
        crate::sql::plan(&context, &compiled.sql).await.map_err(BuildFault::plan(&node, Some(place.clone())))?;
    let planned: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let actual = AbortOnDropHandle::new(tokio::spawn(frame.collect()))
        .await
        .map_err(|source| BuildFault::TaskLost { node: node.clone(), source })?
        .map_err(BuildFault::execute(&node, Some(place)))?;
    let schema = actual.first().map_or(planned, RecordBatch::schema);
    let (expected, columns) = expected_rows(sessions, test, &schema, &compiled.render).await?;
    let actual = Rows::of(&actual, &columns).map_err(BuildFault::shape(&node))?;
    let expected = Rows::of(&[expected], &columns).map_err(BuildFault::shape(&node))?;
    Ok(compare(&actual, &expected))
}

fn model_of<'a>(sessions: &'a Sessions, test: &UnitTest) -> Result<&'a Model> {
    let model = sessions.project.models.get(&test.model);
    model.ok_or_else(|| BuildFault::UnknownNode { node: NodeId::Model(test.model.clone()) })
}

/// What the SQL reads and nobody gives.
fn missing(sessions: &Sessions, model: &Model, test: &UnitTest, compiled: &CompiledUnit) -> Vec<NodeId> {
    let own = NodeId::Model(model.name.clone());
    let is_read = |node: &NodeId| {
        // A template that asks for its own name need not read from itself.
        *node != own
            || sessions
                .compiler
                .relation(node)
                .is_some_and(|relation| compiled.render.incremental && compiled.sql.contains(&relation.sql))
    };
    let is_given = |node: &NodeId| test.given.iter().any(|given| given.input == *node);
    compiled.asked.iter().filter(|node| is_read(node) && !is_given(node)).cloned().collect()
}

/// A node as `input:` names it.
fn input_text(node: &NodeId) -> String {
    match node {
        NodeId::Source(name) => format!("source('{}', '{}')", name.source, name.table),
        other => format!("ref('{}')", other.name()),
    }
}

/// Registers rows under the name that SQL has for the node.
fn show(sessions: &Sessions, context: &SessionContext, node: &NodeId, rows: RecordBatch) -> Result<()> {
    let Some(relation) = sessions.compiler.relation(node) else {
        return Err(BuildFault::UnknownNode { node: node.clone() });
    };
    let name = TableReference::partial(relation.schema, relation.identifier);
    let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(BuildFault::plan(node, None))?;
    register(context, &name, Arc::new(table)).map_err(BuildFault::plan(node, None))
}

/// The rows of a fixture in the columns of a shape.
async fn rows_of(
    sessions: &Sessions,
    fixture: &Fixture,
    shape: &Shape,
    what: &str,
    render: &RenderContext,
) -> Result<RecordBatch> {
    match fixture {
        Fixture::Rows(rows) => build(rows, shape, what).map_err(|faults| Error::from_faults(faults).into()),
        Fixture::Sql { text, location } => {
            let rows = query(sessions, text, location, what, render).await?;
            if shape.is_whole { fit(&rows, &shape.schema, what, location) } else { Ok(rows) }
        }
    }
}

/// The rows that a fixture's query gives.
async fn query(
    sessions: &Sessions,
    text: &str,
    location: &Location,
    what: &str,
    render: &RenderContext,
) -> Result<RecordBatch> {
    let node = NodeId::Model(what.to_owned());
    let sql = sessions.compiler.renderer().inline(text, render, &sessions.compiler.relations())?;
    let at = || Some(location.clone());
    let frame = sessions.empty().sql(&sql).await.map_err(BuildFault::plan(&node, at()))?;
    let planned: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.map_err(BuildFault::execute(&node, at()))?;
    // Types may have been widened after planning, as those of a union are.
    let schema = batches.first().map_or(planned, RecordBatch::schema);
    arrow::compute::concat_batches(&schema, &batches).map_err(BuildFault::shape(&node))
}

/// Brings rows into other columns by name; what they lack is null.
fn fit(rows: &RecordBatch, schema: &SchemaRef, what: &str, location: &Location) -> Result<RecordBatch> {
    for field in rows.schema().fields() {
        if schema.field_with_name(field.name()).is_err() {
            let fault = unknown_column(field.name(), schema, what, location);
            return Err(Error::from_faults(vec![fault]).into());
        }
    }
    let node = NodeId::Model(what.to_owned());
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for field in schema.fields() {
        fields.push(field.as_ref().clone().with_nullable(true));
        columns.push(match rows.column_by_name(field.name()) {
            Some(column) => cast_with_options(column, field.data_type(), &options).map_err(BuildFault::shape(&node))?,
            None => arrow::array::new_null_array(field.data_type(), rows.num_rows()),
        });
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(BuildFault::shape(&node))
}

/// The expected rows in the types that the model gives, and the columns that are compared: those that are written.
async fn expected_rows(
    sessions: &Sessions,
    test: &UnitTest,
    schema: &SchemaRef,
    render: &RenderContext,
) -> Result<(RecordBatch, Vec<String>)> {
    let what = format!("expect of {}", test.name);
    match &test.expect {
        Fixture::Rows(rows) => {
            let columns = columns_of(rows, schema, &what)?;
            let shape = Shape { schema: Arc::clone(schema), is_whole: true };
            let rows = build(rows, &shape, &what).map_err(Error::from_faults)?;
            Ok((rows, columns))
        }
        Fixture::Sql { text, location } => {
            let rows = query(sessions, text, location, &what, render).await?;
            let columns = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
            Ok((fit(&rows, schema, &what, location)?, columns))
        }
    }
}

/// The columns of the first row, as the model spells them; all of the model's when nothing is expected. All rows must name
/// the same.
fn columns_of(rows: &[FixtureRow], schema: &Schema, what: &str) -> Result<Vec<String>> {
    let spelled = |name: &str| {
        let field = schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
        field.map_or_else(|| name.to_owned(), |field| field.name().clone())
    };
    let of = |row: &FixtureRow| -> Vec<String> { row.cells.iter().map(|(name, _)| spelled(name)).collect() };
    let Some(first) = rows.first() else {
        return Ok(schema.fields().iter().map(|field| field.name().clone()).collect());
    };
    let columns = of(first);
    let mut faults = Vec::new();
    for row in &rows[1..] {
        let own: BTreeSet<String> = of(row).into_iter().collect();
        if own != columns.iter().cloned().collect() {
            let message = format!("row names other columns than the first, in=`{what}`");
            let hint = format!("each row must name: {}", columns.join(", "));
            faults.push(Fault::new(message).at(row.location.clone()).code(codes::FIXTURE).hint(hint));
        }
    }
    if faults.is_empty() { Ok(columns) } else { Err(Error::from_faults(faults).into()) }
}

/// Relations that remember who was asked for.
struct Noted {
    inner: SharedRelations,
    asked: Mutex<BTreeSet<NodeId>>,
}

impl Relations for Noted {
    fn relation(&self, node: &NodeId) -> Option<Relation> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone());
        self.inner.relation(node)
    }

    fn find(&self, schema: &str, identifier: &str) -> Option<NodeId> {
        self.inner.find(schema, identifier)
    }

    fn exists(&self, node: &NodeId) -> bool {
        self.inner.exists(node)
    }

    fn columns(&self, node: &NodeId) -> Result<Vec<ColumnFacts>, String> {
        self.inner.columns(node)
    }

    fn graph(&self) -> Option<Arc<Json>> {
        self.inner.graph()
    }

    fn query(&self, sql: &str) -> Result<TableRows, String> {
        self.inner.query(sql)
    }
}
