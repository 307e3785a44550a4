//! The limit: a program that consumes with librdkafka, decodes with arrow-json and writes Parquet with zstd-1, and does
//! nothing else. No key, no copies found, no checks, no progress, no commit, no retry; a fault ends it.
//!
//! It has the product's own shape, so that the difference is what the product does and not how it is threaded: one thread
//! reads, one decodes, one writes, with bounded channels in between.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::ReaderBuilder;
use clap::Args;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

/// Rows of a batch and of a file: what the product's batches have.
const BATCH_ROWS: usize = 100_000;
/// Rows between two threads.
const CHUNK_ROWS: usize = 4_096;
/// How long the broker may be silent.
const SILENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Args)]
pub(crate) struct LimitArgs {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    partitions: i32,
    /// Events in the topic
    #[arg(long)]
    events: u64,
    /// An empty folder
    #[arg(long)]
    folder: PathBuf,
}

/// Reads, decodes and writes; prints the number of rows.
pub(crate) fn run(args: &LimitArgs) -> Result<()> {
    let (chunk_sender, chunks) = sync_channel::<Vec<u8>>(4);
    let (batch_sender, batches) = sync_channel::<RecordBatch>(1);
    let decoder = std::thread::spawn(move || decode(&chunks, &batch_sender));
    let folder = args.folder.clone();
    let writer = std::thread::spawn(move || write(&batches, &folder));
    read(args, &chunk_sender)?;
    drop(chunk_sender);
    decoder.join().map_err(|_| anyhow!("the decoder died"))??;
    let rows = writer.join().map_err(|_| anyhow!("the writer died"))??;
    ensure!(rows == args.events, "{rows} rows of {} events", args.events);
    Ok(())
}

fn read(args: &LimitArgs, chunks: &SyncSender<Vec<u8>>) -> Result<()> {
    // What the product sets, so that both are given the same batches by the broker.
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &args.bootstrap)
        .set("group.id", "limit")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.queue.backoff.ms", "10")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..args.partitions {
        assignment.add_partition_offset(&args.topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut chunk = Vec::with_capacity(CHUNK_ROWS * 256);
    for number in 1..=args.events {
        let message = consumer.poll(SILENCE).context("the broker is silent")??;
        chunk.extend_from_slice(message.payload().context("no payload")?);
        chunk.push(b'\n');
        if number % CHUNK_ROWS as u64 == 0 || number == args.events {
            let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_ROWS * 256));
            chunks.send(full).map_err(|_| anyhow!("the decoder is gone"))?;
        }
    }
    Ok(())
}

fn decode(chunks: &Receiver<Vec<u8>>, batches: &SyncSender<RecordBatch>) -> Result<()> {
    let mut decoder = ReaderBuilder::new(schema()).with_batch_size(BATCH_ROWS).build_decoder()?;
    for chunk in chunks {
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let read = decoder.decode(rest)?;
            rest = &rest[read..];
            if !rest.is_empty()
                && let Some(batch) = decoder.flush()?
            {
                batches.send(batch).map_err(|_| anyhow!("the writer is gone"))?;
            }
        }
    }
    if let Some(batch) = decoder.flush()? {
        batches.send(batch).map_err(|_| anyhow!("the writer is gone"))?;
    }
    Ok(())
}

fn write(batches: &Receiver<RecordBatch>, folder: &std::path::Path) -> Result<u64> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)).build();
    let mut rows = 0;
    for (number, batch) in batches.iter().enumerate() {
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.clone()))?;
        writer.write(&batch)?;
        fs::write(folder.join(format!("{number}.parquet")), writer.into_inner()?)?;
        rows += batch.num_rows() as u64;
    }
    Ok(rows)
}

fn schema() -> Arc<Schema> {
    let texts = ["user_id", "app_version", "device_type", "ip", "locale", "device_id"];
    let mut fields: Vec<Field> = texts.map(|name| Field::new(name, DataType::Utf8, true)).into();
    fields.push(Field::new("timestamp", DataType::Int64, true));
    Arc::new(Schema::new(fields))
}
