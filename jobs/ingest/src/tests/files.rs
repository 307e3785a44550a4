//! Files of every format, once each.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_avro::writer::AvroWriter;
use parquet::arrow::ArrowWriter;
use tidemill_lake::Lake;
use tidemill_project::TopicPartition;
use tidemill_project::contract::{Contract, KeyRule};
use tokio_util::sync::CancellationToken;

use super::support::{MIDNIGHT_S, Process, assert_closed, contract, event, keys, memory_lake, settings};
use crate::quarantine::{Filter, Place, list};
use crate::{IngestObserver, IngestReport, NoObserver};

async fn ingest(lake: &Lake, files: &[&Path], max_batch_rows: usize, cancel: &CancellationToken) -> IngestReport {
    ingest_by(&contract(), lake, files, max_batch_rows, cancel, Arc::new(NoObserver)).await
}

async fn ingest_by(
    contract: &Contract,
    lake: &Lake,
    files: &[&Path],
    max_batch_rows: usize,
    cancel: &CancellationToken,
    observer: Arc<dyn IngestObserver>,
) -> IngestReport {
    let mut settings = settings(None, "");
    settings.ingest.max_batch_rows = max_batch_rows;
    let files = files.iter().map(|path| path.to_path_buf()).collect();
    Box::pin(crate::ingest_files(&settings, lake, contract, files, "files".to_owned(), observer, cancel.clone()))
        .await
        .unwrap()
}

fn lines(range: std::ops::Range<i64>) -> String {
    range.map(|number| event(&format!("k{number:03}"), number) + "\n").collect()
}

#[tokio::test]
async fn every_format_gives_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = lines(0..3);
    std::fs::write(at("a.jsonl"), &text).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    std::fs::write(at("b.ndjson.gz"), gz.finish().unwrap()).unwrap();
    std::fs::write(at("c.json.zst"), zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    let csv = (0..3).fold(String::new(), |csv, number| format!("{csv}k{number:03},{},\n", MIDNIGHT_S + number));
    std::fs::write(at("d.csv"), format!("id,at,n\n{csv}")).unwrap();
    let times: Vec<i64> = (0..3).map(|number| (MIDNIGHT_S + number) * 1_000_000).collect();
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(StringArray::from(vec!["k000", "k001", "k002"])) as arrow::array::ArrayRef),
        ("at", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))),
        ("n", Arc::new(Int64Array::from(vec![None, Some(i64::MAX), None]))),
    ])
    .unwrap();
    let mut parquet = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    parquet.write(&batch).unwrap();
    std::fs::write(at("e.parquet"), parquet.into_inner().unwrap()).unwrap();

    let mut avro = AvroWriter::new(Vec::new(), batch.schema().as_ref().clone()).unwrap();
    avro.write(&batch).unwrap();
    avro.finish().unwrap();
    std::fs::write(at("f.avro"), avro.into_inner()).unwrap();

    for name in ["a.jsonl", "b.ndjson.gz", "c.json.zst", "d.csv", "e.parquet", "f.avro"] {
        let lake = memory_lake();
        let mut report = ingest(&lake, &[&at(name)], 1_000, &CancellationToken::new()).await;
        assert!(report.take_error().is_none(), "{name}");
        assert_eq!(keys(&lake).await, ["k000", "k001", "k002"], "{name}");
        assert_eq!(report.sources[0].files.len(), 1, "{name}");
        assert!(report.sources[0].files[0].complete, "{name}");
        assert_closed(&lake).await;
    }
}

#[tokio::test]
async fn the_same_content_twice_adds_nothing_under_whatever_name() {
    let dir = tempfile::tempdir().unwrap();
    let (one, copy, more) = (dir.path().join("1.jsonl"), dir.path().join("2.jsonl"), dir.path().join("3.jsonl"));
    std::fs::write(&one, lines(0..5)).unwrap();
    std::fs::write(&copy, lines(0..5)).unwrap();
    std::fs::write(&more, lines(3..7)).unwrap();
    let lake = memory_lake();
    let cancel = CancellationToken::new();
    let report = ingest(&lake, &[&one, &copy, &more], 1_000, &cancel).await;
    assert_eq!((report.landed(), report.sources[0].duplicates(), report.sources[0].commits), (7, 2, 2));
    let again = ingest(&lake, &[&copy, &more], 1_000, &cancel).await;
    assert_eq!((again.landed(), again.sources[0].commits), (0, 0));

    // What came from a file is a copy when Kafka brings it.
    let mut process = Process::start(&lake, &contract()).await;
    let partition = TopicPartition::new("events", 0);
    process.take(&partition).await;
    process.land(&[(&partition, 0, Some(&event("k003", 3)))]).await;
    assert_eq!(keys(&lake).await.len(), 7);
    assert_closed(&lake).await;
}

/// Stops the run after its first commit.
struct Stopper(CancellationToken);
impl IngestObserver for Stopper {
    fn batch_committed(&self, _summary: &crate::BatchSummary) {
        self.0.cancel();
    }
}

#[tokio::test]
async fn a_stopped_run_resumes_inside_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("1.jsonl");
    std::fs::write(&path, lines(0..50)).unwrap();
    let lake = memory_lake();

    let cancel = CancellationToken::new();
    let stopper = Arc::new(Stopper(cancel.clone()));
    let report = ingest_by(&contract(), &lake, &[&path], 10, &cancel, stopper).await;
    let landed = report.landed();
    assert!(landed > 0 && landed < 50, "landed {landed}");
    let report = ingest(&lake, &[&path], 10, &CancellationToken::new()).await;
    assert_eq!(report.landed(), 50 - landed, "no record is taken twice");
    assert_eq!(report.sources[0].duplicates(), 0);
    assert_eq!(keys(&lake).await.len(), 50);
    assert_closed(&lake).await;
}

#[tokio::test]
async fn without_a_key_of_its_own_a_record_is_known_by_what_the_file_holds_up_to_it() {
    let contract = Contract { key: vec![KeyRule::Coordinates], ..contract() };
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    // Samples of a metric: two that are equal are two.
    let sample = event("load", 1) + "\n";
    let short = sample.repeat(2);
    let grown = short.clone() + &lines(2..4);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(grown.as_bytes()).unwrap();
    let steps = [
        (file("1.jsonl", short.as_bytes()), 2, 0, "the first time"),
        (file("1.jsonl", short.as_bytes()), 0, 0, "the same file"),
        (file("copy.jsonl", short.as_bytes()), 0, 0, "a copy by another name"),
        (file("grown.jsonl", grown.as_bytes()), 2, 2, "a file that grew, by another name"),
        (file("packed.jsonl.gz", &packed.finish().unwrap()), 0, 4, "packed anew"),
        (file("other.jsonl", (lines(7..8) + &short).as_bytes()), 3, 0, "another file with samples that are equal"),
    ];
    let lake = memory_lake();
    for (path, landed, duplicates, why) in &steps {
        let cancel = CancellationToken::new();
        let report = ingest_by(&contract, &lake, &[path], 1, &cancel, Arc::new(NoObserver)).await;
        assert_eq!((report.landed(), report.sources[0].duplicates()), (*landed, *duplicates), "{why}");
    }
    assert_closed(&lake).await;
    // Keys are the same when a run stopped inside of the file.
    let (whole, parts) = (memory_lake(), memory_lake());
    ingest_by(&contract, &whole, &[&steps[3].0], 100, &CancellationToken::new(), Arc::new(NoObserver)).await;
    let cancel = CancellationToken::new();
    let stopped = ingest_by(&contract, &parts, &[&steps[3].0], 1, &cancel, Arc::new(Stopper(cancel.clone()))).await;
    assert!(stopped.landed() < 4, "it was stopped");
    ingest_by(&contract, &parts, &[&steps[3].0], 1, &CancellationToken::new(), Arc::new(NoObserver)).await;
    assert_eq!(keys(&parts).await, keys(&whole).await);
}

#[tokio::test]
async fn a_broken_line_is_quarantined_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (path, csv) = (dir.path().join("1.jsonl"), dir.path().join("2.csv"));
    std::fs::write(&path, format!("{}\n{{\"id\":\n{}", lines(0..1), lines(1..2))).unwrap();
    std::fs::write(&csv, format!("id,at\nk007,{MIDNIGHT_S}\nk008\n")).unwrap();
    let lake = memory_lake();
    let report = ingest(&lake, &[&path, &csv], 1_000, &CancellationToken::new()).await;
    assert_eq!((report.landed(), report.sources[0].quarantined()), (3, 2));
    let entries = list(&lake, &Filter::default()).await.unwrap();
    let places: Vec<_> = entries
        .iter()
        .filter_map(|of| match &of.entry.place {
            Place::File { path, record, .. } => Some((path.clone(), *record, of.entry.class.as_str())),
            Place::Kafka { .. } => None,
        })
        .collect();
    let expected = [(path.display().to_string(), 1, "malformed"), (csv.display().to_string(), 1, "malformed")];
    assert_eq!(places, expected);
    assert_closed(&lake).await;
}
