//! Headers as no client of ours would send them: written to the in-process broker byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tidemill_project::contract::KeyRule;
use tokio_util::sync::CancellationToken;

use super::support::{contract, event, keys, memory_lake, settings};
use crate::quarantine::{Filter, list};
use crate::{IngestRequest, Mode, NoObserver};

fn varint(value: i64, bytes: &mut Vec<u8>) {
    let mut rest = u64::from_ne_bytes(((value << 1) ^ (value >> 63)).to_ne_bytes());
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

fn counted(part: &[u8], bytes: &mut Vec<u8>) {
    varint(i64::try_from(part.len()).unwrap(), bytes);
    bytes.extend_from_slice(part);
}

/// A batch of one record. Source: Kafka's message format, "Record Batch"; nobody on the way looks at its checksum.
fn record_batch(value: &[u8], headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut record = vec![0];
    varint(0, &mut record);
    varint(0, &mut record);
    varint(-1, &mut record);
    counted(value, &mut record);
    varint(i64::try_from(headers.len()).unwrap(), &mut record);
    for (name, value) in headers {
        counted(name, &mut record);
        counted(value, &mut record);
    }
    let mut tail = Vec::new();
    tail.extend_from_slice(&0_i16.to_be_bytes());
    tail.extend_from_slice(&0_i32.to_be_bytes());
    for timestamp_ms in [1_741_478_400_000_i64; 2] {
        tail.extend_from_slice(&timestamp_ms.to_be_bytes());
    }
    tail.extend_from_slice(&(-1_i64).to_be_bytes());
    tail.extend_from_slice(&(-1_i16).to_be_bytes());
    tail.extend_from_slice(&(-1_i32).to_be_bytes());
    tail.extend_from_slice(&1_i32.to_be_bytes());
    counted(&record, &mut tail);
    let mut batch = 0_i64.to_be_bytes().to_vec();
    batch.extend_from_slice(&i32::try_from(tail.len() + 9).unwrap().to_be_bytes());
    batch.extend_from_slice(&0_i32.to_be_bytes());
    batch.push(2);
    batch.extend_from_slice(&0_u32.to_be_bytes());
    batch.extend_from_slice(&tail);
    batch
}

/// Produce, version 3.
fn produce(brokers: &str, topic: &str, batch: &[u8]) {
    let mut body = Vec::new();
    for number in [0_i16, 3] {
        body.extend_from_slice(&number.to_be_bytes());
    }
    body.extend_from_slice(&7_i32.to_be_bytes());
    for number in [-1_i16, -1, -1] {
        body.extend_from_slice(&number.to_be_bytes());
    }
    for number in [10_000_i32, 1] {
        body.extend_from_slice(&number.to_be_bytes());
    }
    body.extend_from_slice(&i16::try_from(topic.len()).unwrap().to_be_bytes());
    body.extend_from_slice(topic.as_bytes());
    for number in [1, 0, i32::try_from(batch.len()).unwrap()] {
        body.extend_from_slice(&number.to_be_bytes());
    }
    body.extend_from_slice(batch);
    let mut stream = TcpStream::connect(brokers).unwrap();
    stream.write_all(&i32::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let mut size = [0; 4];
    stream.read_exact(&mut size).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_with_broken_names_leave_the_others() {
    let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
    cluster.create_topic("events", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let broken: &[u8] = &[0xff, 0xfe];
    let headers: [(&[u8], &[u8]); 3] = [(b"ce_id", b"by-header"), (broken, b"lost"), (b"trace", &[0x80, 0x01])];
    produce(&brokers, "events", &record_batch(event("field", 1).as_bytes(), &headers));
    produce(&brokers, "events", &record_batch(b"no json", &headers));

    let mut contract = contract();
    contract.key = vec![KeyRule::Header("ce_id".to_owned())];
    let (lake, settings) = (memory_lake(), settings(Some(&brokers), "headers"));
    let request = IngestRequest {
        contracts: vec![contract],
        mode: Mode::Drain,
        max_records: None,
        max_duration: None,
        run_id: "test".to_owned(),
        as_of_us: None,
    };
    let cancel = CancellationToken::new();
    let mut report = crate::ingest(&settings, &lake, request, Arc::new(NoObserver), cancel).await.unwrap();
    assert!(report.take_error().is_none());
    assert_eq!(keys(&lake).await, ["by-header"], "the key stands in a header beside the broken one");
    let entries = list(&lake, &Filter::default()).await.unwrap();
    let kept: Vec<_> = entries[0].entry.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    let expected: [(&str, Option<&[u8]>); 3] =
        [("ce_id", Some(b"by-header")), ("\u{fffd}", None), ("trace", Some(&[0x80, 0x01]))];
    assert_eq!(kept, expected);
}
