//! The connections: how many there may be, and which of them makes room.

use std::collections::BTreeMap;
use std::net::{IpAddr, Shutdown, TcpStream};
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
    peer: IpAddr,
    proven: bool,
}

impl Held {
    /// The connection that makes room for another one of `newcomer`, if there is none left.
    fn makes_room(&self, newcomer: IpAddr, most: usize) -> Option<u64> {
        let unproven = || self.connections.iter().filter(|(_, connection)| !connection.proven);
        if unproven().count() < most {
            return None;
        }
        let mut counts = BTreeMap::from([(newcomer, 1_usize)]);
        unproven().for_each(|(_, connection)| *counts.entry(connection.peer).or_default() += 1);
        // Among equals the newcomer's address makes room.
        let (peer, _) = counts.into_iter().max_by_key(|(peer, count)| (*count, *peer == newcomer))?;
        let oldest = || unproven().next().map(|(number, _)| *number);
        unproven().find(|(_, connection)| connection.peer == peer).map(|(number, _)| *number).or_else(oldest)
    }
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

    /// Gives a new connection a slot. If all are taken, the oldest unauthenticated connection of the address that has
    /// most of them makes room: a host that opens many does not push out the controller, whatever its rate.
    pub(super) fn take(&self, stream: &TcpStream, peer: IpAddr) -> std::io::Result<Slot> {
        let stream = stream.try_clone()?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = held.makes_room(peer, self.limits.unproven)
            && let Some(evicted) = held.connections.remove(&number)
        {
            // Its thread notices the end of the connection.
            let _ = evicted.stream.shutdown(Shutdown::Both);
        }
        let number = held.next;
        held.next += 1;
        held.connections.insert(number, Connection { stream, peer, proven: false });
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
            let (near, peer) = listener.accept().unwrap();
            (slots.take(&near, peer.ip()).unwrap(), far)
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

    #[test]
    fn a_host_that_opens_many_pushes_out_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Slots::new(Limits { proven: 1, unproven: 4, ..Limits::default() });
        let connect = |host: u8| {
            let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (slots.take(&listener.accept().unwrap().0, [10, 0, 0, host].into()).unwrap(), far)
        };
        let (_place, honest) = connect(1);
        let flood: Vec<_> = (0..100).map(|_| connect(2)).collect();
        honest.set_nonblocking(true).unwrap();
        assert_eq!((&honest).read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let (_other, mut late) = connect(3);
        late.set_nonblocking(true).unwrap();
        assert_eq!(late.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(flood.iter().filter(|(_, far)| is_open(far)).count(), 2);
    }

    fn is_open(mut far: &TcpStream) -> bool {
        far.set_nonblocking(true).unwrap();
        far.read(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    }
}
