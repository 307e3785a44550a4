//! The phone app's body, reshaped: one record per reading (A1, A2 of the systems page).
//!
//! Values go through as the texts that came: no number passes through a double.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::refusal::Refusal;

const NULL: &str = "null";

/// A body, with the parts that the route must have.
#[derive(Debug)]
pub(crate) struct Envelope<'b> {
    message_id: &'b str,
    session: &'b str,
    /// The device, decoded: the key of its records.
    pub(crate) device: String,
    device_json: &'b str,
    readings: Vec<&'b RawValue>,
}

#[derive(Deserialize)]
struct Wire<'b> {
    #[serde(rename = "messageId", borrow)]
    message: Option<&'b RawValue>,
    #[serde(rename = "sessionId", borrow)]
    session: Option<&'b RawValue>,
    #[serde(rename = "deviceId", borrow)]
    device: Option<&'b RawValue>,
    #[serde(borrow)]
    payload: Option<&'b RawValue>,
}

#[derive(Default, Deserialize)]
struct Element<'b> {
    #[serde(borrow)]
    name: Option<&'b RawValue>,
    #[serde(borrow)]
    time: Option<&'b RawValue>,
    #[serde(borrow)]
    values: Option<&'b RawValue>,
    #[serde(borrow)]
    x: Option<&'b RawValue>,
    #[serde(borrow)]
    y: Option<&'b RawValue>,
    #[serde(borrow)]
    z: Option<&'b RawValue>,
}

/// One reading in the shape of the topic; each value is its JSON text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading<'b> {
    pub(crate) fields: [(&'static str, Cow<'b, str>); 9],
}

impl<'b> Envelope<'b> {
    /// Reads a body. Field names of the envelope are the app's; what else stands there is ignored.
    pub(crate) fn parse(body: &'b [u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(body).map_err(|_| Refusal::malformed(None, "the body is not UTF-8"))?;
        let wire: Wire<'b> = serde_json::from_str(text)
            .map_err(|error| Refusal::malformed(None, format!("the body is not a JSON object of the app: {error}")))?;
        let (session, _) = required_text("sessionId", wire.session)?;
        let (device_json, device) = required_text("deviceId", wire.device)?;
        let payload = wire.payload.ok_or_else(|| missing("payload"))?;
        let readings = serde_json::from_str::<Vec<&'b RawValue>>(payload.get())
            .map_err(|_| Refusal::malformed(Some("payload"), "`payload` must be a list"))?;
        Ok(Self { message_id: wire.message.map_or(NULL, RawValue::get), session, device, device_json, readings })
    }

    /// Number of readings.
    pub(crate) fn len(&self) -> usize {
        self.readings.len()
    }

    /// The readings in order.
    pub(crate) fn readings(&self) -> impl Iterator<Item = Reading<'b>> + '_ {
        self.readings.iter().map(|raw| self.reshape(raw.get()))
    }

    /// Axes stand in `values` or flat beside `time`; what `values` holds beside the axes stays there. An element that is no
    /// object goes on as `values`, for quarantine to keep.
    fn reshape(&self, text: &'b str) -> Reading<'b> {
        let (element, foreign) = match serde_json::from_str::<Element<'b>>(text) {
            Ok(element) => (element, None),
            Err(_) => (Element::default(), Some(text)),
        };
        let mut axes = [element.x, element.y, element.z].map(|axis| axis.map(RawValue::get));
        let mut values = Cow::Borrowed(foreign.unwrap_or(NULL));
        if let Some(raw) = element.values {
            values = Cow::Borrowed(raw.get());
            if let Ok(mut members) = serde_json::from_str::<BTreeMap<Cow<'b, str>, &'b RawValue>>(raw.get()) {
                let mut moved = false;
                for (name, axis) in ["x", "y", "z"].into_iter().zip(&mut axes) {
                    if let Some(value) = members.remove(name) {
                        *axis = Some(value.get());
                        moved = true;
                    }
                }
                if moved {
                    values = if members.is_empty() { Cow::Borrowed(NULL) } else { Cow::Owned(object(&members)) };
                }
            }
        }
        let raw = |value: Option<&'b RawValue>| Cow::Borrowed(value.map_or(NULL, RawValue::get));
        let [x, y, z] = axes.map(|axis| Cow::Borrowed(axis.unwrap_or(NULL)));
        Reading {
            fields: [
                ("message_id", Cow::Borrowed(self.message_id)),
                ("session_id", Cow::Borrowed(self.session)),
                ("device_id", Cow::Borrowed(self.device_json)),
                ("sensor", raw(element.name)),
                ("time", raw(element.time)),
                ("x", x),
                ("y", y),
                ("z", z),
                ("values", values),
            ],
        }
    }
}

impl Reading<'_> {
    /// A field's JSON text; `null` for fields that the shape does not have.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| *field == name).map_or(NULL, |(_, text)| text)
    }

    /// The record's value.
    pub(crate) fn to_json(&self) -> String {
        let mut json = String::with_capacity(self.fields.iter().map(|(name, text)| name.len() + text.len() + 4).sum());
        for (index, (name, text)) in self.fields.iter().enumerate() {
            json.push_str(if index == 0 { "{\"" } else { ",\"" });
            json.push_str(name);
            json.push_str("\":");
            json.push_str(text);
        }
        json.push('}');
        json
    }
}

fn object(members: &BTreeMap<Cow<'_, str>, &RawValue>) -> String {
    serde_json::to_string(members).expect("texts and raw JSON always serialize")
}

fn missing(field: &'static str) -> Refusal {
    Refusal::malformed(Some(field), format!("`{field}` is required"))
}

/// A text's JSON and its meaning.
fn required_text<'b>(field: &'static str, raw: Option<&'b RawValue>) -> Result<(&'b str, String), Refusal> {
    let raw = raw.ok_or_else(|| missing(field))?;
    match serde_json::from_str::<String>(raw.get()) {
        Ok(text) if !text.is_empty() => Ok((raw.get(), text)),
        Ok(_) => Err(Refusal::malformed(Some(field), format!("`{field}` is empty"))),
        Err(_) => Err(Refusal::malformed(Some(field), format!("`{field}` must be a text"))),
    }
}
