//! An HTTP server in front of another one that, on request, spoils what goes through it.
//!
//! Either every request is answered with one status ([`FaultyHttp::answer_with`]), or a storm blows
//! ([`FaultyHttp::storm`]): then each request has a fate of its own, drawn from a seed.

use std::io::{Read, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::seed::Seeded;
use crate::wait;

/// How long a storm leaves a client without an answer: longer than the time-out that a test gives its client.
pub const SILENCE: Duration = Duration::from_secs(4);

/// The running front. Its threads end with the process.
#[derive(Debug)]
pub struct FaultyHttp {
    state: Arc<State>,
    address: String,
}

#[derive(Debug)]
struct State {
    upstream: String,
    /// Status that every request gets; 0 passes requests on.
    answer: AtomicU16,
    /// Draws the fate of each request, and how many of a hundred go wrong.
    storm: Mutex<Option<(Seeded, u64)>>,
    refused: AtomicU32,
    open: Mutex<Vec<TcpStream>>,
}

/// What becomes of one request in a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pass,
    /// Answered with an error and not passed on.
    Refused(u16),
    /// Passed on, and answered with an error all the same.
    DoneAndRefused(u16),
    /// Passed on; its answer is lost and the connection cut.
    AnswerLost,
    /// Passed on; the answer ends in the middle.
    AnswerCut,
    /// Passed on; the answer comes drop by drop.
    Slow,
    /// Neither passed on nor answered for [`SILENCE`].
    Silence,
}

impl Fate {
    fn draw(random: &mut Seeded, faults_in_100: u64) -> Self {
        if random.below(100) >= faults_in_100 {
            return Self::Pass;
        }
        match random.below(16) {
            0..=2 => Self::Refused(500),
            3..=5 => Self::Refused(503),
            6 => Self::DoneAndRefused(500),
            7 => Self::DoneAndRefused(503),
            8..=10 => Self::AnswerLost,
            11..=12 => Self::AnswerCut,
            13..=14 => Self::Slow,
            _ => Self::Silence,
        }
    }
}

impl FaultyHttp {
    /// Starts a front for `upstream` (`host:port`) on a free port; it passes everything on.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            answer: AtomicU16::new(0),
            storm: Mutex::new(None),
            refused: AtomicU32::new(0),
            open: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A connection that breaks is the client's to notice.
                thread::spawn(move || drop(state.serve(client)));
            }
        });
        Ok(Self { state, address })
    }

    /// `host:port` for clients.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Answers every request with `status` from now on and cuts the connections that are open.
    pub fn answer_with(&self, status: u16) {
        self.state.answer.store(status, Ordering::SeqCst);
        self.state.cut();
    }

    /// Lets about `faults_in_100` of a hundred requests go wrong from now on, each in a way of its own, and cuts the
    /// connections that are open. Same seed, same fates in the order of arrival.
    pub fn storm(&self, seed: u64, faults_in_100: u64) {
        *lock(&self.state.storm) = Some((Seeded::new(seed), faults_in_100));
        self.state.cut();
    }

    /// Passes requests on again.
    pub fn pass(&self) {
        self.state.answer.store(0, Ordering::SeqCst);
        *lock(&self.state.storm) = None;
    }

    /// Requests that went wrong so far.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.state.refused.load(Ordering::SeqCst)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let status = self.answer.load(Ordering::SeqCst);
        if status != 0 {
            self.refused.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 16 * 1024];
            let _ = client.read(&mut head)?;
            return refuse(&mut client, status);
        }
        let fate = lock(&self.storm).as_mut().map(|(random, faults_in_100)| Fate::draw(random, *faults_in_100));
        match fate {
            Some(fate) => self.serve_one(client, fate),
            None => self.pass_on(client),
        }
    }

    /// Copies both ways for as long as the connection lives.
    fn pass_on(&self, mut client: TcpStream) -> std::io::Result<()> {
        let server = TcpStream::connect(&self.upstream)?;
        lock(&self.open).extend([client.try_clone()?, server.try_clone()?]);
        let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
        let down = thread::spawn(move || {
            let _ = copy(&mut from_server, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let mut to_server = server;
        let _ = copy(&mut client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
        let _ = down.join();
        Ok(())
    }

    /// One request, after which the connection ends: so each request has a fate of its own.
    fn serve_one(&self, mut client: TcpStream, fate: Fate) -> std::io::Result<()> {
        let Some(request) = read_request(&mut client)? else { return Ok(()) };
        self.refused.fetch_add(u32::from(fate != Fate::Pass), Ordering::SeqCst);
        match fate {
            Fate::Refused(status) => return refuse(&mut client, status),
            Fate::Silence => {
                wait::pause(SILENCE);
                return client.shutdown(Shutdown::Both);
            }
            _ => {}
        }
        let mut server = TcpStream::connect(&self.upstream)?;
        server.write_all(&request)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        match fate {
            Fate::DoneAndRefused(status) => return refuse(&mut client, status),
            Fate::AnswerLost => {}
            Fate::AnswerCut => client.write_all(&answer[..answer.len() / 2])?,
            Fate::Slow => {
                for piece in answer.chunks(answer.len().div_ceil(8).max(1)) {
                    client.write_all(piece)?;
                    wait::pause(Duration::from_millis(60));
                }
            }
            _ => client.write_all(&answer)?,
        }
        client.shutdown(Shutdown::Both)
    }

    fn cut(&self) {
        for stream in lock(&self.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn refuse(client: &mut TcpStream, status: u16) -> std::io::Result<()> {
    write!(client, "HTTP/1.1 {status} Fault\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    client.shutdown(Shutdown::Write)
}

/// A whole request, changed to one after which the server closes the connection; nothing when the client has gone. Bodies
/// have a length: object_store knows it, and so do its signatures.
fn read_request(client: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let end_of_head = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        match client.read(&mut buffer)? {
            0 => return Ok(None),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end_of_head]).into_owned();
    let header = |line: &str, name: &str| {
        line.split_once(':')
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
    };
    let length: usize =
        head.lines().find_map(|line| header(line, "content-length")).and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes[end_of_head + 4..].to_vec();
    while body.len() < length {
        match client.read(&mut buffer)? {
            0 => return Ok(None),
            count => body.extend_from_slice(&buffer[..count]),
        }
    }
    let kept: Vec<&str> = head.lines().filter(|line| header(line, "connection").is_none()).collect();
    let mut request = kept.join("\r\n").into_bytes();
    request.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
    request.extend_from_slice(&body);
    Ok(Some(request))
}
