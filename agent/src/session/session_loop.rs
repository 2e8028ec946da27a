//! The thread that maintains a session: it talks to the controller, reconnects when the connection is lost,
//! and runs the relay of the session's stream.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ka::chain::{Member, ProgressSample};
use ka::failure::{Failure, FailureKind};
use ka::keys::{JoinKey, KeyPair};
use ka::proof::Proof;
use ka::seal::StreamId;
use ka::step::Step;
use ka::wire::channel::{Channel, Received};
use ka::wire::control::{Hello, Progress, StreamStart, ToAgent, ToController};
use mio::net::TcpStream;

use super::connect::{self, JoinError, Joined};
use super::outage::{Doing, Limits, Outage};
use super::{Event, Outbound, SessionOver, Welcome};
use ka_net::event_loop::EventLoop;
use ka_net::relay::{BATCHES, Command, Feed, Notice, Relay, StreamReader};

/// The pause between two attempts to reach the controller again.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct SessionLoop {
    sockets: EventLoop,
    keys: (JoinKey, KeyPair),
    hello: Hello,
    address: std::net::SocketAddr,
    welcome: Welcome,
    listener: TcpListener,
    from_node: Receiver<Outbound>,
    from_relay: Receiver<ToController>,
    /// A sender for the next relay's complaints.
    complaints: Sender<ToController>,
    to_node: Sender<Event>,
    /// What the controller must know: sent again after the connection was lost.
    said: Vec<ToController>,
    planned: bool,
    connection: Option<Connection>,
    outage: Outage,
    /// When the controller released the stream: all of it has been received.
    released_at: Option<Instant>,
    /// The stream's position when it was last seen to move.
    seen: Option<(u64, u64)>,
    tried_at: Instant,
    stream: Option<Stream>,
    /// The stream that began last, whether it still runs or not.
    last_stream: Option<StreamId>,
    beat_at: Instant,
}

struct Connection {
    stream: TcpStream,
    channel: Channel,
    /// Nothing can be sent any more, for this reason.
    failed: Option<String>,
}

/// The session's running stream.
struct Stream {
    id: StreamId,
    relay: Relay,
    aborted: Arc<Mutex<Option<String>>>,
    /// The controller's messages about it, for the reader.
    proofs: Sender<Proof>,
}

/// Whether the keeper has more to do.
#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    Stop,
}

impl SessionLoop {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        sockets: EventLoop,
        joined: Joined,
        keys: (JoinKey, KeyPair),
        hello: Hello,
        listener: TcpListener,
        from_node: Receiver<Outbound>,
        to_node: Sender<Event>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let (complaints, from_relay) = channel();
        let limits = Limits::default().at_least(joined.welcome.patience);
        let mut keeper = Self {
            sockets,
            keys,
            hello,
            address: joined.address,
            welcome: joined.welcome,
            listener,
            from_node,
            from_relay,
            complaints,
            to_node,
            said: Vec::new(),
            planned: false,
            connection: None,
            outage: Outage::new(limits, now),
            released_at: None,
            seen: None,
            tried_at: now,
            stream: None,
            last_stream: None,
            beat_at: now,
        };
        keeper.take_up(joined)?;
        Ok(keeper)
    }

    /// Maintains the session until either side ends it.
    pub(super) fn run(&mut self) {
        let reason = match self.keep() {
            Ok(()) => return,
            Err(error) => error.to_string(),
        };
        let reason = format!("the node cannot continue: {reason}");
        let failure = Failure::transient(Step::Session, FailureKind::System { reason: reason.clone() });
        self.send(&ToController::Failed(failure));
        self.flush();
        self.end(SessionOver::Ended(reason));
    }

    fn keep(&mut self) -> io::Result<()> {
        let tick = (self.welcome.dead_after / 6).min(Duration::from_millis(500));
        loop {
            self.sockets.wait(tick)?;
            if self.speak() == Next::Stop || self.listen()? == Next::Stop {
                return Ok(());
            }
            self.note_progress();
            self.say_what_is_waited_for();
            if self.connection.is_none() && self.come_back()? == Next::Stop {
                return Ok(());
            }
        }
    }

    /// Sends the reports of the main thread and of the relay, and a heartbeat when one is due.
    fn speak(&mut self) -> Next {
        loop {
            match self.from_node.try_recv() {
                Ok(Outbound::Message(message)) => {
                    self.send(&message);
                    if is_lasting(&message) {
                        self.said.push(message);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Ok(Outbound::Close) | Err(TryRecvError::Disconnected) => return Next::Stop,
            }
        }
        while let Ok(complaint) = self.from_relay.try_recv() {
            self.send(&complaint);
        }
        if self.beat_at.elapsed() >= self.welcome.dead_after / 3 {
            self.beat();
        }
        self.flush();
        Next::Continue
    }

    fn beat(&mut self) {
        self.beat_at = Instant::now();
        let sample = self.stream.as_ref().map(|stream| stream.relay.progress().sample());
        let progress =
            sample.map_or_else(Progress::default, |ProgressSample { verified, written, spent }| Progress {
                verified,
                written,
                spent,
            });
        self.send(&ToController::Heartbeat(progress));
    }

    /// Queues a message, if there is a connection. Lasting state is sent again on the next one, the relay
    /// repeats complaints, and the rest would be useless later.
    fn send(&mut self, message: &ToController) {
        let Some(connection) = &mut self.connection else { return };
        if let Err(error) = connection.channel.send(message) {
            self.lose(&error.to_string());
        }
    }

    fn flush(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        if let Err(error) = connection.channel.write_to(&mut connection.stream) {
            // What the controller sent before it closed is still to be read, above all its goodbye.
            connection.failed.get_or_insert(error.to_string());
        }
    }

    /// Handles the controller's messages.
    fn listen(&mut self) -> io::Result<Next> {
        while let Some(connection) = &mut self.connection {
            match connection.channel.receive::<ToAgent>() {
                Ok(Some(Received::Message(message))) => {
                    if self.on_message(message)? == Next::Stop {
                        return Ok(Next::Stop);
                    }
                    continue;
                }
                Ok(None) => {}
                Ok(Some(_)) => {
                    self.lose("it sent an unexpected message");
                    break;
                }
                Err(error) => {
                    self.lose(&error.to_string());
                    break;
                }
            }
            match connection.channel.read_from(&mut connection.stream) {
                Ok(0) => self.lose("it closed the connection"),
                Ok(_) => self.outage.on_heard(Instant::now()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(reason) = connection.failed.take() {
                        self.lose(&reason);
                    } else if self.outage.is_silent(self.welcome.dead_after, Instant::now()) {
                        self.lose("it has gone silent");
                    }
                    break;
                }
                Err(e) => self.lose(&e.to_string()),
            }
        }
        self.flush();
        Ok(Next::Continue)
    }

    fn on_message(&mut self, message: ToAgent) -> io::Result<Next> {
        match message {
            ToAgent::Plan(_) if self.planned => {}
            ToAgent::Plan(plan) => {
                self.planned = true;
                self.forget_earlier_rounds();
                self.report(Event::Plan(plan));
            }
            ToAgent::Stream(start) => self.start_stream(&start)?,
            ToAgent::View { stream, view } => self.tell_relay(stream, Command::View(view)),
            ToAgent::Release { stream } => {
                self.released_at.get_or_insert_with(Instant::now);
                self.tell_relay(stream, Command::Release);
            }
            ToAgent::Proof { stream, proof } => {
                if let Some(running) = self.stream.as_ref().filter(|running| running.id == stream)
                    && running.proofs.send(proof).is_err()
                {
                    log::debug!("nothing reads the stream any more");
                }
            }
            ToAgent::Abort { stream, reason } => {
                if self.stream.as_ref().is_some_and(|running| running.id == stream) {
                    self.end_stream(reason);
                } else if self.stream.is_none() && self.last_stream != Some(stream) {
                    // The controller was killed after it had chosen this node, and before it had sent the
                    // stream. The next plan is that of another round.
                    self.planned = false;
                    self.report(Event::Aborted(reason));
                }
            }
            ToAgent::Probe => self.beat(),
            ToAgent::Heartbeat => {}
            ToAgent::Bye => {
                self.report(Event::Bye);
                return Ok(Next::Stop);
            }
            ToAgent::Refused { reason } => {
                self.end(SessionOver::Ended(reason));
                return Ok(Next::Stop);
            }
            ToAgent::Welcome { .. } | ToAgent::Redirect { .. } | ToAgent::Tpm(_) => {
                self.lose("it sent an unexpected message")
            }
        }
        Ok(Next::Continue)
    }

    fn start_stream(&mut self, start: &StreamStart) -> io::Result<()> {
        let id = start.key.stream;
        if self.stream.as_ref().is_some_and(|running| running.id == id) {
            return Ok(());
        }
        self.end_stream("another stream has begun".into());
        self.forget_earlier_rounds();
        // A plan comes before the next stream.
        self.planned = false;
        self.last_stream = Some(id);
        self.released_at = None;
        let member =
            Member::node(self.welcome.ticket.node, &start.key, start.window, self.welcome.dead_after);
        let (writer, plain) = sync_channel(BATCHES);
        let aborted = Arc::new(Mutex::new(None::<String>));
        let (complaints, waker, why) = (self.complaints.clone(), self.sockets.waker(), Arc::clone(&aborted));
        let relay =
            Relay::start(
                member,
                self.listener.try_clone()?,
                Feed::Node(writer),
                move |notice| match notice {
                    Notice::Complaint(report) => {
                        if complaints.send(ToController::Complaint { stream: id, report }).is_ok()
                            && let Err(error) = waker.wake()
                        {
                            log::error!("cannot wake the session: {error}");
                        }
                    }
                    // The reader notices it when no more data comes.
                    Notice::Failed(reason) => {
                        if let Ok(mut why) = why.lock() {
                            why.get_or_insert(reason);
                        }
                    }
                    Notice::TailComplete => {}
                },
            )?;
        let (proofs, from_controller) = channel();
        let mut reader = StreamReader::new(plain, relay.handle().clone(), Arc::clone(&aborted))?;
        reader.expect_proofs(from_controller);
        self.stream = Some(Stream { id, relay, aborted, proofs });
        self.report(Event::Stream(id, Box::new(reader)));
        Ok(())
    }

    /// Reports of earlier rounds are known by now, and wrong in this one. The log continues.
    fn forget_earlier_rounds(&mut self) {
        self.said.retain(|message| matches!(message, ToController::Log { .. }));
    }

    fn tell_relay(&self, id: StreamId, command: Command) {
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.id == id) {
            stream.relay.handle().tell(command);
        }
    }

    fn end_stream(&mut self, reason: String) {
        if let Some(stream) = self.stream.take() {
            if let Ok(mut aborted) = stream.aborted.lock() {
                *aborted = Some(reason);
            }
            drop(stream.relay);
        }
    }

    /// The connection is gone; the relay continues.
    fn lose(&mut self, reason: &str) {
        if self.connection.take().is_some() {
            log::warn!("the connection to the controller at {} is lost: {reason}", self.address);
            self.outage.on_lost(Instant::now());
        }
    }

    fn say_what_is_waited_for(&mut self) {
        let is_complete = self.said.iter().any(|said| matches!(said, ToController::Complete { .. }));
        let doing = match (is_complete, self.released_at, &self.stream) {
            (true, ..) => Doing::Complete,
            (false, Some(since), _) => Doing::WritesOut(since),
            (false, None, Some(_)) => Doing::Receives,
            (false, None, None) => Doing::Waits,
        };
        match self.outage.word(&self.address.to_string(), doing, Instant::now()) {
            Some((true, word)) => log::warn!("{word}"),
            Some((false, word)) => log::info!("{word}"),
            None => {}
        }
    }

    /// As long as the stream moves, other nodes depend on this member, whatever has happened to the
    /// controller.
    fn note_progress(&mut self) {
        let position = |stream: &Stream| {
            let progress = stream.relay.progress();
            (progress.verified.load(Ordering::Relaxed), progress.tail.load(Ordering::Relaxed))
        };
        let seen = self.stream.as_ref().map(position);
        if seen != self.seen {
            self.seen = seen;
            self.outage.on_moved(Instant::now());
        }
    }

    fn come_back(&mut self) -> io::Result<Next> {
        if let Some(reason) = self.outage.end(&self.address.to_string(), Instant::now()) {
            self.end(SessionOver::Lost(reason));
            return Ok(Next::Stop);
        }
        if self.tried_at.elapsed() < RETRY {
            return Ok(Next::Continue);
        }
        self.tried_at = Instant::now();
        // No wait for an answer is longer than the wait for the controller itself.
        let patience = self.outage.left(Instant::now()).clamp(RETRY, connect::PATIENCE);
        match connect::connect(self.address, (&self.keys.0, &self.keys.1), &self.hello, None, patience) {
            Ok(joined) => {
                log::info!("the controller at {} is back", self.address);
                self.take_up(joined)?;
                Ok(Next::Continue)
            }
            Err(error @ JoinError::Refused { .. }) => {
                self.end(SessionOver::Lost(error.to_string()));
                Ok(Next::Stop)
            }
            Err(error) => {
                log::debug!("{error}");
                self.outage.on_failed(error.is_nobody(), Instant::now());
                Ok(Next::Continue)
            }
        }
    }

    fn take_up(&mut self, joined: Joined) -> io::Result<()> {
        joined.stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(joined.stream);
        self.sockets.add(&mut stream, 0)?;
        self.address = joined.address;
        self.outage.on_heard(Instant::now());
        self.connection = Some(Connection { stream, channel: joined.channel, failed: None });
        for message in std::mem::take(&mut self.said) {
            self.send(&message);
            self.said.push(message);
        }
        // Data may have arrived together with the welcome.
        self.sockets.waker().wake()
    }

    fn end(&mut self, over: SessionOver) {
        self.end_stream(over.to_string());
        self.report(Event::Over(over));
    }

    fn report(&self, event: Event) {
        if self.to_node.send(event).is_err() {
            log::debug!("nothing waits for the session's events any more");
        }
    }
}

/// Whether the controller must learn this even if the connection is lost meanwhile.
fn is_lasting(message: &ToController) -> bool {
    match message {
        ToController::Ready
        | ToController::Forged { .. }
        | ToController::Complete { .. }
        | ToController::Notes { .. }
        | ToController::Failed(_)
        | ToController::Log { .. }
        | ToController::Done => true,
        ToController::Hello(_)
        | ToController::Heartbeat(_)
        | ToController::Complaint { .. }
        | ToController::Step(_)
        | ToController::Tpm(_) => false,
    }
}
