//! HTTP load over connections that stay open, a thread each.
//!
//! *Closed loop*: a connection sends its next request when the last one is answered, which finds the greatest rate but says
//! little about latency: while the server stalls, nobody asks it anything. *Open loop*: request `k` is due at `start + k / rate`
//! whatever became of those before it, and its time counts from then, so that a stall is charged to every request that it
//! would have met (no coordinated omission).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidemill_project::clock::{Clock, Stopwatch};
use tidemill_tests::wait;

use super::message::Shape;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(30);

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    Closed,
    Open { per_second: f64 },
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) connections: u64,
    pub(super) pace: Pace,
    pub(super) length: Duration,
}

/// What came of a run.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Numbers of the messages that were acknowledged, in no order.
    pub(super) acknowledged: Vec<u64>,
    /// Milliseconds that each of them took, sorted.
    pub(super) latencies: Vec<f64>,
    /// Messages that were answered in any other way.
    pub(super) refused: u64,
    /// From the first request to the last answer.
    pub(super) length: Duration,
}

impl Answers {
    /// Messages that were acknowledged per second.
    pub(super) fn per_second(&self) -> f64 {
        crate::stats::rate(self.acknowledged.len() as u64, self.length)
    }
}

/// Sends messages of one shape, numbered from `next` on.
pub(super) fn run(load: &Load, shape: &Shape, next: &AtomicU64) -> Result<Answers> {
    let first = next.load(Ordering::SeqCst);
    let watch = Clock::system().stopwatch();
    let parts = thread::scope(|scope| -> Result<Vec<Answers>> {
        let workers: Vec<_> = (0..load.connections)
            .map(|connection| scope.spawn(move || converse(load, connection, shape, first, next, watch)))
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a connection's thread does not panic")).collect()
    })?;
    let mut answers = Answers { length: watch.elapsed(), ..Answers::default() };
    for part in parts {
        answers.acknowledged.extend(part.acknowledged);
        answers.latencies.extend(part.latencies);
        answers.refused += part.refused;
    }
    answers.latencies.sort_by(f64::total_cmp);
    Ok(answers)
}

/// Sends the requests of one connection.
fn converse(
    load: &Load,
    connection: u64,
    shape: &Shape,
    first: u64,
    next: &AtomicU64,
    watch: Stopwatch,
) -> Result<Answers> {
    let mut stream = TcpStream::connect(load.address).context("the collector takes no connection")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    let mut answers = Answers::default();
    for turn in 0_u64.. {
        let due = match load.pace {
            Pace::Closed => watch.elapsed(),
            Pace::Open { per_second } => after(connection + turn * load.connections, per_second),
        };
        if due >= load.length {
            break;
        }
        wait::pause(due.saturating_sub(watch.elapsed()));
        let number = match load.pace {
            Pace::Closed => next.fetch_add(1, Ordering::SeqCst),
            Pace::Open { .. } => first + connection + turn * load.connections,
        };
        next.fetch_max(number + 1, Ordering::SeqCst);
        shape.request(number, &mut request);
        stream.write_all(&request)?;
        let status = read_answer(&mut stream, &mut answer)?;
        if status == 200 {
            ensure!(answer == shape.accepted(), "message {number}: {}", String::from_utf8_lossy(&answer));
            answers.acknowledged.push(number);
            answers.latencies.push(1e3 * watch.elapsed().saturating_sub(due).as_secs_f64());
        } else {
            answers.refused += 1;
        }
    }
    Ok(answers)
}

/// When a request is due.
fn after(request: u64, per_second: f64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "requests are millions")]
    let request = request as f64;
    Duration::from_secs_f64(request / per_second)
}

/// Reads one answer: its status, and its body into `body`.
fn read_answer(stream: &mut TcpStream, body: &mut Vec<u8>) -> Result<u16> {
    body.clear();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "the collector closed the connection");
        body.extend_from_slice(&chunk[..read]);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = head.parse(body)? else { continue };
        let status = head.code.context("an answer has a status")?;
        let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length: usize = std::str::from_utf8(length.context("an answer tells its length")?.value)?.parse()?;
        body.drain(..head_bytes);
        let got = body.len();
        body.resize(length, 0);
        stream.read_exact(&mut body[got..])?;
        return Ok(status);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers every request after 50 ms of silence at the beginning.
    fn stalling_server() -> (SocketAddr, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut chunk = [0; 4096];
            let mut is_first = true;
            while stream.read(&mut chunk).is_ok_and(|read| read > 0) {
                if std::mem::take(&mut is_first) {
                    wait::pause(Duration::from_millis(50));
                }
                let body = r#"{"accepted":1,"rejected":[]}"#;
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        });
        (address, server)
    }

    #[test]
    fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
        let (address, server) = stalling_server();
        let load = Load {
            address,
            connections: 1,
            pace: Pace::Open { per_second: 200.0 },
            length: Duration::from_millis(200),
        };
        let answers = run(&load, &Shape::new(1, false), &AtomicU64::new(0)).unwrap();
        server.join().unwrap();
        assert_eq!(answers.acknowledged, (0..40).collect::<Vec<u64>>());
        // Ten requests were due in the 50 ms; in a closed loop one would have noticed.
        let slow = answers.latencies.iter().filter(|latency| **latency > 4.0).count();
        assert!(slow >= 9, "{slow} of {:?}", answers.latencies);
    }
}
