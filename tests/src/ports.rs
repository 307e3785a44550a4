//! Free ports on loopback.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// What SeaweedFS adds to each of its ports for gRPC.
pub const GRPC_OFFSET: u16 = 10_000;

/// Below the range from which Linux takes ports for outgoing connections (from 32768): a server that is stopped and
/// started again on its port must not find a stranger's connection there.
const CANDIDATES: std::ops::Range<u16> = 10_240..22_000;

static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Finds a port that is free now together with the one [`GRPC_OFFSET`] above it, and that this process has not handed out
/// before. Drawn at random, so that test processes side by side hardly ever draw the same one.
///
/// # Panics
/// Never: the range of candidates is smaller than 65536.
#[must_use]
pub fn free_port() -> u16 {
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let drawn = RandomState::new().hash_one("port") % u64::from(CANDIDATES.end - CANDIDATES.start);
        let port = CANDIDATES.start + u16::try_from(drawn).expect("the range is smaller than 65536");
        if !handed_out.contains(&port) && is_free(port) && is_free(port + GRPC_OFFSET) {
            handed_out.insert(port);
            return port;
        }
    }
}

/// Whether nobody listens on `127.0.0.1:port`.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Whether somebody accepts connections on `127.0.0.1:port`.
#[must_use]
pub fn is_open(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_handed_out_once_each() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 50);
    }
}
