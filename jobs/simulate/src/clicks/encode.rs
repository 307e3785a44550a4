//! The same fields as Avro, under the ids that the schema registry gave.

use serde::{Deserialize, Serialize};

use crate::avro::{Kind, Status, SystemMetric, Transaction, UserAction, UserActionVersion};
use crate::json::{Field, Json};

/// Ids of the schemas in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaIds {
    /// `UserAction` up to `properties`.
    pub user_action_v1: u32,
    /// `UserAction` with the experiment.
    pub user_action_v2: u32,
    /// `Transaction`.
    pub transaction: u32,
    /// `SystemMetric`.
    pub system_metric: u32,
}

impl SchemaIds {
    pub(super) fn of(self, schema: AvroSchema) -> u32 {
        match schema {
            AvroSchema::UserActionV1 => self.user_action_v1,
            AvroSchema::UserActionV2 => self.user_action_v2,
            AvroSchema::Transaction => self.transaction,
            AvroSchema::SystemMetric => self.system_metric,
        }
    }
}

/// A schema with which an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AvroSchema {
    UserActionV1,
    UserActionV2,
    Transaction,
    SystemMetric,
}

impl AvroSchema {
    pub(super) fn user_action(is_second_version: bool) -> Self {
        if is_second_version { Self::UserActionV2 } else { Self::UserActionV1 }
    }
}

/// Writes an event's fields in the registry's wire format.
pub(crate) fn encode_avro(fields: &[Field], schema: AvroSchema, id: u32) -> Vec<u8> {
    let value = |name: &str| {
        fields.iter().find(|field| field.name == name).and_then(|field| match &field.value {
            Json::Text(text) | Json::Raw(text) => Some(text.as_ref()),
            Json::Int(_) => None,
        })
    };
    let text = |name: &str| value(name).unwrap_or_default();
    let at = fields.iter().find_map(|field| match field.value {
        Json::Int(number) if field.name == "occurred_at" => Some(number),
        _ => None,
    });
    let occurred_at_ms = at.unwrap_or_default();
    let mut out = Vec::with_capacity(160);
    match schema {
        AvroSchema::UserActionV1 | AvroSchema::UserActionV2 => {
            let is_first = schema == AvroSchema::UserActionV1;
            let version = if is_first { UserActionVersion::V1 } else { UserActionVersion::V2 };
            let properties: &[(&str, &str)] = if text("properties") == "{}" { &[] } else { &[("ref", "mail")] };
            UserAction {
                event_id: text("event_id"),
                user_id: text("user_id"),
                action: text("action"),
                occurred_at_ms,
                session_id: value("session_id"),
                page: value("page"),
                properties,
                experiment_id: value("experiment_id"),
                variant: value("variant"),
            }
            .write(id, version, &mut out);
        }
        AvroSchema::Transaction => Transaction {
            event_id: text("event_id"),
            transaction_id: text("transaction_id"),
            user_id: text("user_id"),
            kind: match text("kind") {
                "order" => Kind::Order,
                "payment" => Kind::Payment,
                _ => Kind::Refund,
            },
            status: match text("status") {
                "pending" => Status::Pending,
                "completed" => Status::Completed,
                _ => Status::Failed,
            },
            amount: text("amount").replace('.', "").parse().unwrap_or_default(),
            currency: text("currency"),
            occurred_at_ms,
        }
        .write(id, &mut out),
        AvroSchema::SystemMetric => SystemMetric {
            event_id: value("event_id"),
            service: text("service"),
            metric: text("metric"),
            value: text("value").parse().unwrap_or_default(),
            occurred_at_ms,
            tags: &[("region", "eu")],
        }
        .write(id, &mut out),
    }
    out
}
