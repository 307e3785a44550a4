//! An HTTP server in front of another one that, on request, answers with an error instead of passing the request on.

use std::io::{Read, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;

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
    refused: AtomicU32,
    open: Mutex<Vec<TcpStream>>,
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

    /// Passes requests on again.
    pub fn pass(&self) {
        self.state.answer.store(0, Ordering::SeqCst);
    }

    /// Requests that were answered with an error so far.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.state.refused.load(Ordering::SeqCst)
    }
}

impl State {
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let status = self.answer.load(Ordering::SeqCst);
        if status != 0 {
            self.refused.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 16 * 1024];
            let _ = client.read(&mut head)?;
            write!(client, "HTTP/1.1 {status} Fault\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
            return client.shutdown(Shutdown::Write);
        }
        let server = TcpStream::connect(&self.upstream)?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).extend([client.try_clone()?, server.try_clone()?]);
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

    fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
