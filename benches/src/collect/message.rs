//! Requests of the phone app: number and gzip member apart, so that making one costs the load's side next to nothing.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{API_KEY, PHONES};

/// 2025-03-09T12:00:05Z.
const TIME_NS: u64 = 1_741_521_605_000_000_000;

/// A kind of request.
pub(super) struct Shape {
    pub(super) readings: usize,
    pub(super) is_gzip: bool,
    /// What follows number and phone; compressed where the whole is.
    rest: Vec<u8>,
    accepted: Vec<u8>,
}

impl Shape {
    /// A message of so many accelerations.
    pub(super) fn new(readings: usize, is_gzip: bool) -> Self {
        let mut rest = String::from(r#""sessionId":"5a3f0a52-1f2e-4c9b-8d37-2f6f5a1f9c10","payload":["#);
        for reading in 0..readings {
            let comma = if reading > 0 { "," } else { "" };
            let time = TIME_NS + reading as u64 * 10_000_000;
            let axis = |shift: usize| (reading * 7_919 + shift * 104_729) % 1_000_000;
            // Writing to a String cannot fail.
            let _ = write!(
                rest,
                r#"{comma}{{"name":"accelerometer","time":{time},"values":{{"x":0.{:06},"y":-1.{:06},"z":9.{:06}}}}}"#,
                axis(0),
                axis(1),
                axis(2)
            );
        }
        rest.push_str("]}");
        let rest = if is_gzip { deflated(rest.as_bytes()) } else { rest.into_bytes() };
        let accepted = format!(r#"{{"accepted":{readings},"rejected":[]}}"#).into_bytes();
        Self { readings, is_gzip, rest, accepted }
    }

    /// The answer to a message that is all right.
    pub(super) fn accepted(&self) -> &[u8] {
        &self.accepted
    }

    /// Writes the request of a message.
    pub(super) fn request(&self, number: u64, out: &mut Vec<u8>) {
        let begin = format!(r#"{{"messageId":{number},"deviceId":"phone-{}","#, number % PHONES);
        // A gzip file may have several members; readers take them for one text (RFC 1952, 2.2).
        let begin = if self.is_gzip { stored(begin.as_bytes()) } else { begin.into_bytes() };
        let encoding = if self.is_gzip { "content-encoding: gzip\r\n" } else { "" };
        out.clear();
        // Writing to a vector cannot fail.
        let _ = write!(
            out,
            "POST /sensor-logger HTTP/1.1\r\nhost: localhost\r\nx-api-key: {API_KEY}\r\ncontent-type: application/json\r\n\
             {encoding}content-length: {}\r\n\r\n",
            begin.len() + self.rest.len()
        );
        out.extend_from_slice(&begin);
        out.extend_from_slice(&self.rest);
    }
}

fn deflated(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("a vector takes every byte")
}

/// A gzip member of one block that is not compressed: no encoder is set up for a few bytes.
fn stored(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("the beginning of a message is short");
    let mut crc = flate2::Crc::new();
    crc.update(text);
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    member.extend(length.to_le_bytes());
    member.extend((!length).to_le_bytes());
    member.extend_from_slice(text);
    member.extend(crc.sum().to_le_bytes());
    member.extend(u32::from(length).to_le_bytes());
    member
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::MultiGzDecoder;
    use serde_json::Value;

    use super::*;

    #[test]
    fn both_forms_of_a_message_have_the_same_text() {
        let body = |shape: &Shape| {
            let mut request = Vec::new();
            shape.request(1_234, &mut request);
            let end = request.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
            request.split_off(end + 4)
        };
        let plain = body(&Shape::new(60, false));
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(&body(&Shape::new(60, true))[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain);
        let message: Value = serde_json::from_slice(&plain).unwrap();
        assert_eq!((&message["messageId"], message["payload"].as_array().unwrap().len()), (&Value::from(1_234), 60));
    }
}
