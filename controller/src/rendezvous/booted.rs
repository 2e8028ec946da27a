//! Tracks the nodes that run from their own disks: each node reports its first boot once, with a secret of
//! this node and this run.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ka::first_boot::PATH;
use ka::mac::Mac;
use ka::sha256::Sha256;

use ka_host::sys::queue::unacknowledged;
use ka_net::http::server::{self, Answer, Endpoint, Request, Status};
use ka_net::listen::Side;

/// The nodes that were asked to report, and those that have.
pub struct Booted {
    /// The port for the reports.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Keyed by digest: the time of a failed lookup must not reveal how much of a guess was right.
    owners: BTreeMap<[u8; 32], Mac>,
    up: BTreeSet<Mac>,
}

impl Booted {
    /// Listens until the process ends; on another port if this one is taken.
    ///
    /// # Errors
    /// No port is available.
    pub fn start(side: &Side, port: u16) -> io::Result<Self> {
        let address = side.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let shared = Arc::new(Shared::default());
        let serve = |port| {
            let shared = Arc::clone(&shared);
            let endpoint = Endpoint {
                address: SocketAddr::new(address, port),
                interface: side.interface.clone(),
                queue: unacknowledged,
            };
            server::start(&endpoint, move |request| shared.answer(request))
        };
        let bound = match serve(port) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => serve(0)?,
            outcome => outcome?,
        };
        Ok(Self { port: bound.port(), shared })
    }

    /// Registers the machine that will report its first boot with this secret.
    pub fn expect(&self, mac: Mac, token: &str) {
        self.shared.lock().owners.insert(digest(token.as_bytes()), mac);
    }

    /// The machines that have reported.
    #[must_use]
    pub fn up(&self) -> BTreeSet<Mac> {
        self.shared.lock().up.clone()
    }

    /// Waits for the next report, at most for `timeout`.
    pub fn wait(&self, timeout: Duration) {
        drop(self.shared.changed.wait_timeout(self.shared.lock(), timeout));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request) -> Answer {
        let Request::Post { path, body } = request else { return Status::NotAllowed.into() };
        if path != PATH {
            return Status::NotFound.into();
        }
        let mut state = self.lock();
        let Some(mac) = state.owners.get(&digest(body)).copied() else { return Status::Forbidden.into() };
        if state.up.insert(mac) {
            log::info!("{mac} runs from its own disk");
        }
        self.changed.notify_all();
        Status::NoContent.into()
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> Mac {
        format!("52:54:00:00:00:{last:02x}").parse().unwrap()
    }

    fn tell(booted: &Booted, path: &str, token: &str) -> Result<(), String> {
        let server = format!("127.0.0.1:{}", booted.port);
        ka_net::http::client::send(&server, "POST", path, token.as_bytes()).map_err(|e| e.to_string())
    }

    fn local() -> Side {
        Side { address: Some(Ipv4Addr::LOCALHOST.into()), interface: None }
    }

    #[test]
    fn only_the_nodes_own_secret_counts() {
        let booted = Booted::start(&local(), 0).unwrap();
        let one = "0123456789abcdef".to_owned();
        booted.expect(mac(1), &one);
        booted.expect(mac(2), "fedcba9876543210");
        for guess in ["", "0", &one[1..], &mac(1).to_string()] {
            let refused = tell(&booted, PATH, guess).unwrap_err();
            assert!(refused.contains("403"), "{guess}: {refused}");
        }
        assert!(tell(&booted, "/other", &one).unwrap_err().contains("404"));
        assert_eq!(booted.up(), BTreeSet::new());
        tell(&booted, PATH, &one).unwrap();
        // A node whose answer was lost repeats its report.
        tell(&booted, PATH, &one).unwrap();
        assert_eq!(booted.up(), [mac(1)].into());

        let other = Booted::start(&local(), booted.port).unwrap();
        assert_ne!(other.port, booted.port, "another run has the port");
    }
}
