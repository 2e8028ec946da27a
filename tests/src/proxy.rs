//! A TCP proxy in the middle of a connection that can record, damage, refuse and cut.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// The direction in which bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the dialling side to the answering side.
    Forth,
    /// From the answering side.
    Back,
}

/// The modification of passing bytes: the direction, the offset of the bytes in its flow, the bytes.
type Damage = dyn Fn(Way, usize, &mut [u8]) + Send + Sync;

/// A listening proxy.
pub struct Proxy {
    /// Its address.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    damage: Box<Damage>,
    refuses: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
    recorded: Mutex<Vec<u8>>,
}

impl Proxy {
    /// Forwards connections to `to`, after applying `damage`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn new(to: SocketAddr, damage: impl Fn(Way, usize, &mut [u8]) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to,
            damage: Box::new(damage),
            refuses: AtomicBool::new(false),
            open: Mutex::default(),
            accepted: AtomicUsize::new(0),
            recorded: Mutex::default(),
        });
        let listening = Arc::clone(&shared);
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                listening.take(stream.unwrap());
            }
        });
        Self { address, shared }
    }

    /// Forwards everything unchanged.
    #[must_use]
    pub fn honest(to: SocketAddr) -> Self {
        Self::new(to, |_, _, _| {})
    }

    /// Cuts all connections, and closes new ones immediately until `refuse(false)`.
    ///
    /// # Panics
    /// Never.
    pub fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
        if refuses {
            for stream in self.shared.open.lock().unwrap().drain(..) {
                // It may have ended by itself.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// The number of connections so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Everything that the dialling side has sent so far.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn recorded(&self) -> Vec<u8> {
        self.shared.recorded.lock().unwrap().clone()
    }
}

impl Shared {
    fn take(self: &Arc<Self>, from: TcpStream) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        if self.refuses.load(Ordering::SeqCst) {
            return;
        }
        let Ok(to) = TcpStream::connect(self.to) else { return };
        let mut open = self.open.lock().unwrap();
        for (way, from, to) in [(Way::Forth, &from, &to), (Way::Back, &to, &from)] {
            open.push(from.try_clone().unwrap());
            let (from, to, shared) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(self));
            thread::spawn(move || shared.pass(way, from, to));
        }
    }

    fn pass(&self, way: Way, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 65536];
        let mut position = 0;
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            if way == Way::Forth {
                self.recorded.lock().unwrap().extend_from_slice(&bytes[..length.min(4096)]);
            }
            (self.damage)(way, position, &mut bytes[..length]);
            position += length;
            if to.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            // The other direction may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
