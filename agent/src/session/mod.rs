//! A node's conversation with the controller.
//!
//! [`Session::join`] opens it. A separate thread then maintains it: heartbeats, reconnection, the relay of
//! the session's streams. The main thread only waits for the next [`Event`] and reports what it has done, so
//! no disk ever delays a heartbeat.

mod connect;
mod endorse;
mod outage;
mod session_loop;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ka::failure::Failure;
use ka::keys::{JoinKey, KeyPair};
use ka::notes::Tally;
use ka::plan::{ConfirmedPlan, UnknownPlan, VersionedPlan};
use ka::proof::Forged;
use ka::seal::{StreamId, Total};
use ka::wire::control::{Hello, Ticket, ToController};
use mio::Waker;

pub use connect::JoinError;
pub use endorse::Endorse;

use ka_net::event_loop::EventLoop;
use ka_net::relay::StreamReader;

/// The controller's next instruction.
pub enum Event {
    /// Prepare according to this plan.
    Plan(VersionedPlan),
    /// Receive this stream.
    Stream(StreamId, Box<StreamReader>),
    /// The stream that is waited for was given up, for this reason, before this node had heard of it.
    Aborted(String),
    /// Every node is served; this one may leave.
    Bye,
    /// The controller has rejected this node, or can no longer be reached.
    Over(SessionOver),
}

/// A session that ended before its work was complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionOver {
    /// The controller has ended it, or this node cannot continue it.
    #[error("{0}")]
    Ended(String),
    /// The controller cannot be reached any more, or another process has taken its place and does not know
    /// this node.
    #[error("{0}")]
    Lost(String),
}

/// Why there is no plan to carry out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// The session ended first.
    #[error(transparent)]
    Over(#[from] SessionOver),
    /// The controller's plans have another version.
    #[error(transparent)]
    Unknown(#[from] UnknownPlan),
}

/// An open session.
pub struct Session {
    /// The controller's welcome.
    pub welcome: Welcome,
    events: Receiver<Event>,
    sender: ControllerSender,
    thread: Option<JoinHandle<()>>,
}

/// Sends reports to the controller.
#[derive(Clone)]
pub struct ControllerSender {
    outbound: Sender<Outbound>,
    waker: Arc<Waker>,
}

/// An input of the session loop.
enum Outbound {
    Message(ToController),
    /// The main thread has left the session.
    Close,
}

impl ControllerSender {
    /// Sends a report to the controller; has no effect when the session is over.
    pub fn tell(&self, message: ToController) {
        self.send(Outbound::Message(message));
    }

    fn send(&self, outbound: Outbound) {
        // A loop that has ended has reported that through an event.
        if self.outbound.send(outbound).is_ok()
            && let Err(error) = self.waker.wake()
        {
            log::error!("cannot wake the session: {error}");
        }
    }
}

/// The controller's welcome.
#[derive(Clone, Copy, Debug)]
pub struct Welcome {
    /// The ticket that identifies this node when it reconnects.
    pub ticket: Ticket,
    /// The golden node's clock: nanoseconds since 1970 (UTC).
    pub time: u64,
    /// When silence counts as failure in this session.
    pub dead_after: Duration,
    /// How long this node waits for a vanished controller; zero for no longer than an ordinary outage.
    pub patience: Duration,
}

impl Session {
    /// Joins the session in `hello` at the controller at `address`, with the key of this boot, which is also
    /// in `hello`. Successors connect to `listener`, whose port is in `hello`.
    ///
    /// # Errors
    /// [`JoinError`] if the controller does not answer or refuses.
    pub fn join(
        address: SocketAddr,
        (join, own): (&JoinKey, &KeyPair),
        hello: Hello,
        listener: TcpListener,
    ) -> Result<Self, JoinError> {
        Self::join_endorsed(address, (join, own), hello, listener, None)
    }

    /// The same with the proof of this machine's TPM, if it has one.
    ///
    /// # Errors
    /// [`JoinError`] if the controller does not answer or refuses.
    pub fn join_endorsed(
        address: SocketAddr,
        (join, own): (&JoinKey, &KeyPair),
        hello: Hello,
        listener: TcpListener,
        tpm: Option<&mut dyn Endorse>,
    ) -> Result<Self, JoinError> {
        let (hello, left_out) = hello.bounded();
        for what in left_out {
            log::warn!("the report about this machine to the controller is incomplete: it lacks {what}");
        }
        let joined = connect::connect(address, (join, own), &hello, tpm, connect::PATIENCE)?;
        let welcome = joined.welcome;
        let sockets = EventLoop::new(8).map_err(JoinError::System)?;
        let waker = sockets.waker();
        let (outbound, from_node) = channel();
        let (to_node, events) = channel();
        let mut session_loop = session_loop::SessionLoop::new(
            sockets,
            joined,
            (join.clone(), own.clone()),
            Hello { resume: Some(welcome.ticket), ..hello },
            listener,
            from_node,
            to_node,
        )
        .map_err(JoinError::System)?;
        let thread = thread::Builder::new()
            .name("session".into())
            .spawn(move || session_loop.run())
            .map_err(JoinError::System)?;
        Ok(Self { welcome, events, sender: ControllerSender { outbound, waker }, thread: Some(thread) })
    }

    /// Sends a report to the controller.
    pub fn tell(&self, message: ToController) {
        self.sender.tell(message);
    }

    /// A handle that sends reports to the controller from other threads, as long as the session lasts.
    #[must_use]
    pub fn sender(&self) -> ControllerSender {
        self.sender.clone()
    }

    /// Waits for the plan.
    ///
    /// # Errors
    /// [`NoPlan`].
    pub fn wait_for_plan(&self) -> Result<Box<ConfirmedPlan>, NoPlan> {
        let over = |reason: &str| NoPlan::Over(SessionOver::Ended(reason.to_owned()));
        match self.next_but_aborted() {
            Ok(Event::Plan(plan)) => Ok(plan.open()?),
            Ok(Event::Aborted(reason)) => Err(over(&reason)),
            Ok(Event::Stream(..)) => Err(over("the controller sent a stream without a plan")),
            Ok(Event::Bye) => Err(over("the controller has no work for this node")),
            Ok(Event::Over(reason)) => Err(reason.into()),
            Err(_) => Err(over("the session's thread has ended")),
        }
    }

    /// Waits for the stream.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub fn wait_for_stream(&self) -> Result<(StreamId, StreamReader), SessionOver> {
        match self.events.recv() {
            Ok(Event::Stream(stream, reader)) => Ok((stream, *reader)),
            Ok(Event::Plan(_)) => {
                Err(SessionOver::Ended("the controller sent a plan instead of a stream".into()))
            }
            Ok(Event::Bye) => Err(SessionOver::Ended("the controller has nothing to send".into())),
            Ok(Event::Over(over)) => Err(over),
            Ok(Event::Aborted(reason)) => Err(SessionOver::Ended(reason)),
            Err(_) => Err(SessionOver::Ended("the session's thread has ended".into())),
        }
    }

    /// The next event for a node that waits for no stream.
    fn next_but_aborted(&self) -> Result<Event, RecvError> {
        loop {
            match self.events.recv() {
                Ok(Event::Aborted(_)) => {}
                event => return event,
            }
        }
    }

    /// Reports everything noted about the copy so far, if anything was. Call this before the report that
    /// completes the copy.
    pub fn note(&self, stream: StreamId, tally: &Tally) {
        if !tally.is_empty() {
            self.tell(ToController::Notes { stream, tally: tally.clone() });
        }
    }

    /// Reports that the stream differed from the golden node's, if that is why it failed.
    pub fn accuse(&self, stream: StreamId, forged: Option<Forged>) {
        if let Some(forged) = forged {
            self.tell(ToController::Forged { stream, forged });
        }
    }

    /// Reports that the stream is received, verified and synced.
    pub fn complete(&self, stream: StreamId, total: Total) {
        self.tell(ToController::Complete { stream, total });
    }

    /// Reports that this node's copy failed. The node continues relaying until it is released.
    pub fn fail(&self, failure: Failure) {
        self.tell(ToController::Failed(failure));
    }

    /// Reports that everything is done, and waits until the controller has released this node and said
    /// goodbye. That takes as long as others need this node's relay or memory; losing the controller ends it.
    ///
    /// # Errors
    /// [`SessionOver`] if the controller is lost before that. This node's copy is good all the same.
    pub fn leave(&self) -> Result<(), SessionOver> {
        self.tell(ToController::Done);
        loop {
            match self.events.recv() {
                Ok(Event::Bye) => return Ok(()),
                // A stream of another round is not meant for a node that has left.
                Ok(Event::Plan(_) | Event::Stream(..) | Event::Aborted(_)) => {}
                Ok(Event::Over(over)) => return Err(over),
                Err(_) => return Err(SessionOver::Ended("the session's thread has ended".into())),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sender.send(Outbound::Close);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the session's thread has panicked");
        }
    }
}
