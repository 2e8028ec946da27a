//! The connections: how many there may be, and which of them makes room.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use super::Limits;

/// All connections to a console.
#[derive(Clone)]
pub(super) struct Slots {
    limits: Limits,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    next: u64,
    connections: BTreeMap<u64, Connection>,
}

struct Connection {
    stream: TcpStream,
    proven: bool,
}

/// A connection's slot, until this is dropped.
pub(super) struct Slot {
    number: u64,
    limits: Limits,
    held: Arc<Mutex<Held>>,
}

impl Slots {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, held: Arc::default() }
    }

    /// Gives a new connection a slot. The controller authenticates at once, so the oldest unauthenticated
    /// connection makes room.
    pub(super) fn take(&self, stream: &TcpStream) -> std::io::Result<Slot> {
        let stream = stream.try_clone()?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unproven = held.connections.iter().filter(|(_, connection)| !connection.proven);
        let oldest = unproven.next().map(|(number, _)| *number);
        if let Some(oldest) = oldest.filter(|_| unproven.count() + 1 >= self.limits.unproven)
            && let Some(evicted) = held.connections.remove(&oldest)
        {
            // Its thread notices the end of the connection.
            let _ = evicted.stream.shutdown(Shutdown::Both);
        }
        let number = held.next;
        held.next += 1;
        held.connections.insert(number, Connection { stream, proven: false });
        drop(held);
        Ok(Slot { number, limits: self.limits, held: Arc::clone(&self.held) })
    }
}

impl Slot {
    /// Records that the connection is authenticated as the controller's.
    ///
    /// # Errors
    /// The number of viewers, if there is no room for one more.
    pub(super) fn prove(&self) -> Result<(), usize> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let proven = held.connections.values().filter(|connection| connection.proven).count();
        if proven >= self.limits.proven {
            return Err(proven);
        }
        if let Some(connection) = held.connections.get_mut(&self.number) {
            connection.proven = true;
        }
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn the_oldest_that_proves_nothing_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Slots::new(Limits { proven: 1, unproven: 2, ..Limits::default() });
        let connect = || {
            let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (slots.take(&listener.accept().unwrap().0).unwrap(), far)
        };
        let (proven, mut far) = connect();
        assert_eq!(proven.prove(), Ok(()));
        let (_first, mut evicted) = connect();
        let (second, _kept) = connect();
        let (_third, _also) = connect();
        assert_eq!(evicted.read(&mut [0]).unwrap(), 0, "its connection ends");
        far.set_nonblocking(true).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(second.prove(), Err(1), "no room for a second viewer");
        drop(proven);
        assert_eq!(second.prove(), Ok(()));
    }
}
