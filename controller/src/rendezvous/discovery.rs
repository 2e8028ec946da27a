//! Answers nodes that ask by broadcast who serves their session.
//!
//! Every `kactl` of a host answers for its own sessions only: the port is shared (`SO_REUSEADDR`), and the
//! kernel hands a broadcast to every socket on it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ka::keys::JoinKey;
use ka::wire::DISCOVERY_PORT;
use ka::wire::discovery::{Answerer, DiscoveryKey, REQUEST_LENGTH};
use mio::Waker;

use ka_net::event_loop::EventLoop;
use ka_net::listen::Side;

/// How often the thread looks up when no node asks; only a datagram or the end of the run has it do anything.
const TICK: Duration = Duration::from_secs(60);

/// A thread that answers. It ends when this is dropped.
pub struct Responder {
    answerer: Arc<Mutex<Vec<Answerer>>>,
    stop: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

/// Discovery cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("discovery on UDP port {DISCOVERY_PORT}: {0}; nodes will not find this controller by broadcast")]
pub struct ResponderError(io::Error);

impl From<io::Error> for ResponderError {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl Responder {
    /// Starts to answer holders of the join secret, for no session yet.
    ///
    /// # Errors
    /// [`ResponderError`] when the port is taken by a program that does not share it, or the kernel gives no thread.
    pub fn start(keys: &[&JoinKey], side: &Side) -> Result<Self, ResponderError> {
        let answerers = keys.iter().map(|join| Answerer::new(DiscoveryKey::new(join)));
        let mut socket = mio::net::UdpSocket::from_std(side.shared_udp(DISCOVERY_PORT)?);
        let sockets = EventLoop::new(8)?;
        sockets.add_reader(&mut socket, 0)?;
        let stop = sockets.waker();
        let answerer = Arc::new(Mutex::new(answerers.collect()));
        let shared = Arc::clone(&answerer);
        let thread = std::thread::Builder::new().name("discovery".to_owned()).spawn(move || {
            if let Err(e) = serve(sockets, &socket, &shared) {
                log::error!("{}", ResponderError(e));
            }
        })?;
        Ok(Self { answerer, stop, thread: Some(thread) })
    }

    /// From now on, nodes that ask for `session` are told this control port.
    pub fn announce(&self, session: &str, control_port: u16) {
        lock(&self.answerer).iter_mut().for_each(|answerer| answerer.announce(session, control_port));
    }

    /// From now on, nobody who asks for `session` is answered.
    pub fn withdraw(&self, session: &str) {
        lock(&self.answerer).iter_mut().for_each(|answerer| answerer.withdraw(session));
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Err(e) = self.stop.wake() {
            log::warn!("discovery does not stop: {e}");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("discovery: its thread panicked");
        }
    }
}

fn serve(
    mut sockets: EventLoop,
    socket: &mio::net::UdpSocket,
    answerer: &Mutex<Vec<Answerer>>,
) -> io::Result<()> {
    loop {
        if sockets.wait(TICK)?.woken {
            return Ok(());
        }
        answer_all(socket, answerer)?;
    }
}

fn answer_all(socket: &mio::net::UdpSocket, answerer: &Mutex<Vec<Answerer>>) -> io::Result<()> {
    // One byte more than a request, so that a longer datagram is not mistaken for one.
    let mut datagram = [0; REQUEST_LENGTH + 1];
    loop {
        let (length, from) = match socket.recv_from(&mut datagram) {
            Ok(received) => received,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // An earlier reply came to a node that had gone.
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(e) => return Err(e),
        };
        let reply = lock(answerer).iter_mut().find_map(|answerer| answerer.answer(&datagram[..length]));
        if let Some(reply) = reply {
            send(socket, &reply, from);
        }
    }
}

/// A reply that cannot be sent is like one that got lost: the node asks again.
fn send(socket: &mio::net::UdpSocket, reply: &[u8], to: SocketAddr) {
    match socket.send_to(reply, to) {
        Ok(_) => log::debug!("discovery: answered {to}"),
        Err(e) => log::warn!("discovery: reply to {to}: {e}"),
    }
}

/// A panic while the lock was held leaves the answerer whole, as each of its changes is one step.
fn lock(answerer: &Mutex<Vec<Answerer>>) -> MutexGuard<'_, Vec<Answerer>> {
    answerer.lock().unwrap_or_else(PoisonError::into_inner)
}
