//! A contract, compiled: everything that can be looked up, parsed or refused before the first record.

use tidemill_project::clock::Micros;
use tidemill_project::contract::{ColumnType, Contract, ContractColumn, KeyRule, OnExtra, PartitionBy};

use super::error::{Cause, Result};
use super::key::Key;
use super::nested::Nest;
use super::paths::Paths;
use super::scan::{Span, Token};
use super::time::{TimeRule, zone};
use super::value::{Bounds, Cell, Kind, Place, Shape, TRUE_AND_FALSE, Texts};

/// The compiled contract. Immutable; one per decoder.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) paths: Paths,
    pub(crate) columns: Vec<Column>,
    /// Texts of the contract that cells point into.
    pub(crate) constants: String,
    /// The column that holds the event time.
    pub(crate) event_time: usize,
    pub(crate) keys: Vec<Key>,
    pub(crate) has_hours: bool,
    pub(crate) on_extra: OnExtra,
    pub(crate) grace_us: Micros,
    pub(crate) max_record_bytes: usize,
    pub(crate) min_event_time_us: Micros,
    pub(crate) max_future_us: Micros,
}

/// A payload column, compiled.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: Box<str>,
    /// The field as messages name it, all its paths included.
    pub(crate) field: Box<str>,
    /// Slots of its paths, in the order in which they are tried.
    pub(crate) slots: Vec<usize>,
    /// Slots that count instead where another column says so.
    pub(crate) slots_when: Option<(Condition, Vec<usize>)>,
    pub(crate) content: Content,
    /// `""` counts as absent.
    pub(crate) empty_is_missing: bool,
    pub(crate) required: bool,
    pub(crate) required_when: Option<Condition>,
    /// Required where this other column is absent.
    pub(crate) required_without: Option<usize>,
    /// What an absent value becomes; [`Cell::Null`] unless declared.
    pub(crate) on_missing: Cell,
    /// What the record's topic says, per topic rule; [`Cell::Null`] where it says nothing.
    pub(crate) topic_defaults: Vec<Cell>,
}

/// Whether another column holds one of some texts, after renaming.
#[derive(Debug)]
pub(crate) struct Condition {
    column: usize,
    values: Vec<String>,
}

impl Condition {
    /// Whether it holds of a record; `cells` reach as far as the column that decides.
    pub(crate) fn holds(&self, cells: &[Cell], texts: &Texts<'_>) -> bool {
        match cells[self.column] {
            Cell::Text(place, span) => self.values.iter().any(|value| *value == texts.get(place, span)),
            Cell::Int(number) => self.values.contains(&number.to_string()),
            Cell::Bool(truth) => self.values.contains(&truth.to_string()),
            _ => false,
        }
    }
}

/// How a column reads its values.
#[derive(Debug)]
pub(crate) enum Content {
    Flat(Shape),
    Nested(Nest),
}

impl Plan {
    /// Compiles a contract.
    ///
    /// # Errors
    /// When the contract names columns that it does not declare, gives defaults that their columns do not take, or has no
    /// usable event time or key.
    pub(crate) fn new(contract: &Contract) -> Result<Self> {
        let mut paths: Vec<&[String]> = Vec::new();
        let mut compiler = Compiler { contract, constants: TRUE_AND_FALSE.to_owned() };
        let mut columns = Vec::with_capacity(contract.columns.len());
        for column in &contract.columns {
            let slots = slots_of(&column.paths, &mut paths);
            let other_slots = column.paths_when.as_ref().map(|when| slots_of(&when.paths, &mut paths));
            columns.push(compiler.column(column, slots, other_slots, columns.len())?);
        }
        let event_time = compiler.index(&contract.event_time.column, "event_time")?;
        let keys = contract.key.iter().map(|rule| compiler.key(rule)).collect::<Result<Vec<_>>>()?;
        if keys.is_empty() {
            return Err(compiler.fault(&contract.event_time.column, "it has no idempotency key"));
        }
        compiler.check_event_time(&columns[event_time])?;
        Ok(Self {
            paths: Paths::new(paths),
            columns,
            constants: compiler.constants,
            event_time,
            keys,
            has_hours: contract.partition_by == PartitionBy::Hour,
            on_extra: contract.on_extra,
            grace_us: micros(contract.grace),
            max_record_bytes: contract.max_record_bytes,
            min_event_time_us: contract.min_event_time_us,
            max_future_us: micros(contract.max_future),
        })
    }
}

impl Column {
    /// The value that counts: of the first path that holds one. Null and, where it counts as absent, `""` are none.
    ///
    /// `cells` are those of the columns before this one.
    #[inline]
    pub(crate) fn resolve(&self, tokens: &[Token], cells: &[Cell], texts: &Texts<'_>) -> Token {
        let mut token = Token::Absent;
        let slots = match &self.slots_when {
            Some((condition, slots)) if condition.holds(cells, texts) => slots,
            _ => &self.slots,
        };
        for slot in slots {
            token = match tokens[*slot] {
                Token::Absent | Token::Null => continue,
                Token::Text(span) if span.len() == 0 && self.empty_is_missing => continue,
                found => found,
            };
            break;
        }
        token
    }
}

/// Slots of paths; paths that are new join those that the scanner looks for.
fn slots_of<'c>(wanted: &'c [Vec<String>], paths: &mut Vec<&'c [String]>) -> Vec<usize> {
    let mut slots = Vec::with_capacity(wanted.len());
    for path in wanted {
        let known = paths.iter().position(|known| known == path);
        slots.push(known.unwrap_or(paths.len()));
        if known.is_none() {
            paths.push(path);
        }
    }
    slots
}

struct Compiler<'a> {
    contract: &'a Contract,
    constants: String,
}

impl Compiler<'_> {
    fn column(
        &mut self,
        column: &ContractColumn,
        slots: Vec<usize>,
        other_slots: Option<Vec<usize>>,
        own: usize,
    ) -> Result<Column> {
        let is_event_time = column.name == self.contract.event_time.column;
        let content = match &column.data_type {
            ColumnType::Struct(_) | ColumnType::List(_) => Content::Nested(Nest::new(&column.data_type)),
            _ => Content::Flat(self.shape(column, is_event_time)?),
        };
        let on_missing = match &column.on_missing {
            Some(text) => self.constant(&content, column, text, "on_missing")?,
            None => Cell::Null,
        };
        let mut topic_defaults = Vec::with_capacity(self.contract.topics.len());
        for topic in &self.contract.topics {
            let default = topic.defaults.iter().find(|(name, _)| *name == column.name);
            topic_defaults.push(match default {
                Some((_, text)) => self.constant(&content, column, text, "set")?,
                None => Cell::Null,
            });
        }
        let required_when = match &column.required_when {
            Some((other, values)) => Some(self.condition(other, values, "required_when")?),
            None => None,
        };
        let required_without =
            column.required_without.as_ref().map(|other| self.index(other, "required_without")).transpose()?;
        let slots_when = match column.paths_when.as_ref().zip(other_slots) {
            Some((when, slots)) => {
                let condition = self.condition(&when.column, &when.values, "from_when")?;
                if condition.column >= own {
                    return Err(
                        self.fault(&column.name, "the column that decides where it is read from stands behind it")
                    );
                }
                Some((condition, slots))
            }
            None => None,
        };
        Ok(Column {
            name: column.name.as_str().into(),
            field: field_name(column).into(),
            slots,
            slots_when,
            content,
            // Only a text column can hold an empty text; elsewhere it is how CSV and careless producers write null.
            empty_is_missing: column.empty_is_missing || column.data_type != ColumnType::Text,
            required: column.required || is_event_time,
            required_when,
            required_without,
            on_missing,
            topic_defaults,
        })
    }

    fn condition(&self, other: &str, values: &[String], place: &'static str) -> Result<Condition> {
        Ok(Condition { column: self.index(other, place)?, values: values.to_vec() })
    }

    fn shape(&mut self, column: &ContractColumn, is_event_time: bool) -> Result<Shape> {
        let zone = match &column.time_zone {
            Some(name) => Some(zone(name).ok_or_else(|| self.fault(&column.name, "its time zone is unknown"))?),
            None => None,
        };
        let rule = TimeRule { unit: column.time_unit, zone };
        let kind = match column.data_type {
            ColumnType::BigInt if column.time_unit.is_some() => Kind::Time(rule),
            ColumnType::BigInt => Kind::BigInt,
            ColumnType::Double => Kind::Double,
            ColumnType::Decimal(precision, scale) => {
                let scale_fits = u8::try_from(scale).is_ok_and(|scale| scale <= precision);
                if precision == 0 || precision > 38 || !scale_fits {
                    return Err(self.fault(&column.name, "its precision must be 1 to 38 and its scale 0 to that"));
                }
                Kind::Decimal { precision, scale }
            }
            ColumnType::Boolean => Kind::Boolean,
            ColumnType::Date => Kind::Date,
            ColumnType::Timestamp => Kind::Time(rule),
            ColumnType::Json => Kind::Json,
            ColumnType::Text | ColumnType::Struct(_) | ColumnType::List(_) => Kind::Text,
        };
        let aliases =
            column.aliases.iter().map(|(alias, target)| (alias.as_str().into(), self.add_constant(target))).collect();
        Ok(Shape {
            kind,
            accept_text: column.accept_text,
            keeps_units: column.data_type == ColumnType::BigInt,
            is_event_time,
            aliases,
            accepted_values: column.accepted_values.iter().map(|value| value.as_str().into()).collect(),
            max_bytes: column.max_bytes.unwrap_or(usize::MAX),
            text_format: column.text_format,
            bounds: Bounds { min: column.min, max: column.max },
        })
    }

    /// Reads a default. A text is taken as it is, but renamed; `unknown` need not be one of the accepted values.
    fn constant(
        &mut self,
        content: &Content,
        column: &ContractColumn,
        text: &str,
        place: &'static str,
    ) -> Result<Cell> {
        let Content::Flat(shape) = content else {
            return Err(self.fault(&column.name, "structs and lists take no default"));
        };
        let text = match &shape.kind {
            Kind::Text => column.aliases.iter().find(|(alias, _)| alias == text).map_or(text, |(_, target)| target),
            _ => text,
        };
        let span = self.add_constant(text);
        if matches!(shape.kind, Kind::Text) {
            return Ok(Cell::Text(Place::Constant, span));
        }
        let refused = || Cause::Constant {
            name: self.contract.name.clone(),
            location: self.contract.location.clone(),
            place,
            column: column.name.clone(),
        };
        if matches!(shape.kind, Kind::Json) {
            serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| refused())?;
            return Ok(Cell::Text(Place::Constant, span));
        }
        let reader = Shape { accept_text: true, ..shape.clone() };
        let texts = Texts { payload: text, decoded: "", constants: &self.constants };
        let whole = Span { start: 0, end: text.len() };
        Ok(reader.convert(Token::Text(whole), &texts).map_err(|_| refused())?)
    }

    fn key(&self, rule: &KeyRule) -> Result<Key> {
        Ok(match rule {
            KeyRule::Field(name) => Key::Field(self.index(name, "idempotency_key")?),
            KeyRule::Header(name) => Key::Header(name.as_str().into()),
            KeyRule::Coordinates => Key::Coordinates,
            KeyRule::Hash(names) => {
                let mut columns = Vec::with_capacity(names.len());
                for name in names {
                    let index = self.index(name, "idempotency_key")?;
                    if matches!(self.contract.columns[index].data_type, ColumnType::Struct(_) | ColumnType::List(_)) {
                        return Err(self.fault(name, "a key is hashed from flat columns only"));
                    }
                    columns.push(index);
                }
                Key::Hash(columns)
            }
        })
    }

    fn check_event_time(&self, column: &Column) -> Result<()> {
        match &column.content {
            Content::Flat(Shape { kind: Kind::Time(_) | Kind::Date, .. }) => Ok(()),
            _ => Err(self.fault(&column.name, "the event time must be a timestamp, a date, or a bigint with a unit")),
        }
    }

    fn index(&self, column: &str, place: &'static str) -> Result<usize> {
        let index = self.contract.columns.iter().position(|candidate| candidate.name == column);
        Ok(index.ok_or_else(|| Cause::NoColumn {
            name: self.contract.name.clone(),
            location: self.contract.location.clone(),
            place,
            column: column.to_owned(),
        })?)
    }

    fn fault(&self, column: &str, problem: &'static str) -> super::Error {
        let (name, location) = (self.contract.name.clone(), self.contract.location.clone());
        Cause::Column { name, location, column: column.to_owned(), problem }.into()
    }

    fn add_constant(&mut self, text: &str) -> Span {
        let start = self.constants.len();
        self.constants.push_str(text);
        Span { start, end: self.constants.len() }
    }
}

/// How messages name a column: by what the record calls it.
fn field_name(column: &ContractColumn) -> String {
    let paths: Vec<String> = column.paths.iter().map(|path| path.join(".")).collect();
    paths.join("` or `")
}

fn micros(duration: std::time::Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}
