//! Events of the three topics and their fields.

use std::borrow::Cow;

use super::encode::AvroSchema;
use crate::json::{Field, int, raw, text};
use crate::options::Options;
use crate::stream::{Base, Breakage, Encoding, Shape};
use crate::system::System;
use crate::truth::decimal_text;

const ACTIONS: &str = "events.user-actions";
const TRANSACTIONS: &str = "events.transactions";
const METRICS: &str = "events.system";

const YESTERDAY: Breakage = Breakage::Value("occurred_at", "\"yesterday\"", "bad_event_time");
/// Seconds where milliseconds belong: a day in January 1970.
const SECONDS: Breakage = Breakage::Unit(1_000_000);

const ACTION_SHAPE: Shape = Shape {
    removable: &[("event_id", true), ("user_id", true), ("action", true), ("occurred_at", true)],
    time: "occurred_at",
    breakages: &[Breakage::Value("user_id", "{}", "wrong_type"), YESTERDAY, SECONDS],
};
const TRANSACTION_SHAPE: Shape = Shape {
    removable: &[
        ("event_id", true),
        ("transaction_id", true),
        ("user_id", true),
        ("kind", true),
        ("status", true),
        ("amount", true),
        ("currency", true),
        ("occurred_at", true),
    ],
    time: "occurred_at",
    breakages: &[
        Breakage::Value("amount", "\"lots\"", "wrong_type"),
        YESTERDAY,
        SECONDS,
        Breakage::Value("kind", "\"gift\"", "bad_value"),
    ],
};
const METRIC_SHAPE: Shape = Shape {
    removable: &[("service", true), ("metric", true), ("value", true), ("occurred_at", true)],
    time: "occurred_at",
    breakages: &[Breakage::Value("value", "\"high\"", "wrong_type"), YESTERDAY, SECONDS],
};

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum User {
    /// By rank of activity: the first is the busiest.
    Person(u64),
    /// One of those whose clicks of a minute are counted on purpose.
    Robot { hour: u64, number: u64 },
}

impl User {
    /// The id that is sent.
    pub(super) fn name(self) -> String {
        let mut name = String::with_capacity(12);
        match self {
            Self::Person(rank) => {
                name.push('u');
                push_number(&mut name, rank);
            }
            Self::Robot { hour, number } => {
                name.push('r');
                push_number(&mut name, hour);
                name.push('-');
                push_number(&mut name, number);
            }
        }
        name
    }

    /// A number that spreads users over partitions.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Person(rank) => rank,
            Self::Robot { hour, number } => hour + number,
        }
    }
}

/// Appends a number's digits.
pub(super) fn push_number(text: &mut String, number: u64) {
    text.push_str(itoa::Buffer::new().format(number));
}

/// What models see of an event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fact {
    Action {
        user: User,
        kind: &'static str,
        exposure: Option<(&'static str, Option<&'static str>)>,
    },
    Transaction {
        user: User,
        kind: &'static str,
        status: &'static str,
        currency: &'static str,
        /// Ten-thousandths of the currency.
        units: i64,
    },
    Metric {
        service: &'static str,
        metric: &'static str,
        value_millionths: i64,
    },
}

/// An event without its time.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) is_whole: bool,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Action(Action),
    Transaction(Transaction),
    Metric { service: &'static str, metric: &'static str, value_millionths: i64, has_id: bool },
}

#[derive(Clone, Debug)]
pub(super) struct Action {
    pub(super) user: User,
    /// `click`, `view`, …
    pub(super) kind: &'static str,
    pub(super) session: Option<String>,
    pub(super) page: &'static str,
    pub(super) has_properties: bool,
    pub(super) is_second_version: bool,
    /// Experiment, and variant where it was assigned.
    pub(super) exposure: Option<(&'static str, Option<&'static str>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) user: User,
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) status: &'static str,
    /// Ten-thousandths of the currency.
    pub(super) units: i64,
    pub(super) currency: &'static str,
    /// Whether the amount is sent as a text.
    pub(super) is_text: bool,
}

/// What comes after a transaction is pending.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Completed,
    Failed,
    Refunded,
}

impl Transaction {
    /// The same transaction one step on.
    pub(super) fn after(&self, step: Step) -> Self {
        let (kind, status) = match step {
            Step::Completed => (self.kind, "completed"),
            Step::Failed => (self.kind, "failed"),
            Step::Refunded => ("refund", "completed"),
        };
        Self { kind, status, ..self.clone() }
    }
}

impl Event {
    /// What models see of it.
    pub(super) fn fact(&self) -> Fact {
        match &self.body {
            Body::Action(Action { user, kind, exposure, .. }) => {
                Fact::Action { user: *user, kind, exposure: *exposure }
            }
            Body::Transaction(Transaction { user, kind, status, currency, units, .. }) => {
                Fact::Transaction { user: *user, kind, status, currency, units: *units }
            }
            Body::Metric { service, metric, value_millionths, .. } => {
                Fact::Metric { service, metric, value_millionths: *value_millionths }
            }
        }
    }

    /// The event as it is sent at an instant, a whole number of milliseconds.
    pub(super) fn base(&self, us: i64, options: &Options) -> Base {
        let partitions = options.num_partitions(System::Clicks);
        let (topic, key, spread, shape, schema) = match &self.body {
            Body::Action(action) => {
                let version = AvroSchema::user_action(action.is_second_version);
                (ACTIONS, action.user.name(), action.user.number(), &ACTION_SHAPE, version)
            }
            Body::Transaction(transaction) => {
                let user = transaction.user;
                (TRANSACTIONS, user.name(), user.number(), &TRANSACTION_SHAPE, AvroSchema::Transaction)
            }
            Body::Metric { service, .. } => {
                (METRICS, (*service).to_owned(), service.len() as u64, &METRIC_SHAPE, AvroSchema::SystemMetric)
            }
        };
        Base {
            topic,
            partition: i32::try_from(spread % partitions).expect("partitions are few"),
            fields: self.fields(us, &key),
            key: Some(key),
            event_us: us,
            sent_from_us: us,
            encoding: options.avro.map_or(Encoding::Json, |ids| Encoding::Avro { schema, id: ids.of(schema) }),
            shape,
            is_whole: self.is_whole,
            is_copyable: !matches!(self.body, Body::Metric { has_id: false, .. }),
        }
    }

    fn fields(&self, us: i64, key: &str) -> Vec<Field> {
        let at = int("occurred_at", us / 1_000);
        let id = text("event_id", self.id.clone());
        match &self.body {
            Body::Action(action) => {
                let mut fields = Vec::with_capacity(9);
                fields.extend([id, text("user_id", key.to_owned()), text("action", action.kind), at]);
                fields.extend(action.session.clone().map(|session| text("session_id", session)));
                fields.push(text("page", action.page));
                let properties = if action.has_properties { r#"{"ref":"mail"}"# } else { "{}" };
                fields.push(raw("properties", properties));
                if let Some((experiment, variant)) = action.exposure {
                    fields.push(text("experiment_id", experiment));
                    fields.extend(variant.map(|variant| text("variant", variant)));
                }
                fields
            }
            Body::Transaction(transaction) => {
                let amount = decimal_text(i128::from(transaction.units), 4);
                let amount: Cow<'static, str> = amount.into();
                vec![
                    id,
                    text("transaction_id", transaction.id.clone()),
                    text("user_id", key.to_owned()),
                    text("kind", transaction.kind),
                    text("status", transaction.status),
                    if transaction.is_text { text("amount", amount) } else { raw("amount", amount) },
                    text("currency", transaction.currency),
                    at,
                ]
            }
            Body::Metric { metric, value_millionths, has_id, .. } => {
                let mut fields = Vec::with_capacity(6);
                fields.extend(has_id.then_some(id));
                fields.push(text("service", key.to_owned()));
                fields.push(text("metric", *metric));
                fields.push(raw("value", decimal_text(i128::from(*value_millionths), 6)));
                fields.push(at);
                fields.push(raw("tags", r#"{"region":"eu"}"#));
                fields
            }
        }
    }
}
