//! The shell around the member: connects sockets to the member's state machine.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use ka::chain::LinkMessage;
use ka::chain::LinkName;
use ka::chain::{Action, LinkId, Member, Plaintext, Spent, Trouble, Waiting};
use ka::wire::channel::{Channel, ChannelError, Received};
use ka::wire::preamble::Preamble;

use super::connection::{Connection, Read};
use super::gather::Gather;
use super::{Command, Feed, Notice, RelayProgress, WriterPosition};
use crate::event_loop::EventLoop;

/// How often the time is checked when nothing happens.
const TICK: Duration = Duration::from_millis(50);
/// How long a connection may take to identify itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// The maximum number of open connections that have not been greeted.
const MAX_UNGREETED: usize = 32;
/// The number of moves between two checks for events.
const TURNS: usize = 16;
/// A block is taken from the golden node's producer when the successor has everything except this many bytes.
/// Blocks that are sealed early are compressed without knowing the chain's speed, and use memory for nothing.
const LEAD: u64 = 1024 * 1024;
/// How long a stopped relay continues to write what is queued.
const LINGER: Duration = Duration::from_secs(2);

pub(super) struct Shell {
    sockets: EventLoop,
    member: Member<SocketAddr>,
    feed: Feed,
    /// Plaintext for which the writer had no room.
    plaintext: Option<Plaintext>,
    commands: Receiver<Command>,
    writer: Arc<WriterPosition>,
    progress: Arc<RelayProgress>,
    notice: Box<dyn Fn(Notice) + Send>,
    connections: BTreeMap<LinkId, Connection>,
    start: Instant,
    /// How the time is spent: it is charged to what the loop waits for while it is idle.
    spent: Spent,
    waiting: Waiting,
    gather: Gather,
    /// The link on which the successor receives its blocks.
    fed: Option<LinkId>,
    tail_told: bool,
    stopped: Option<Duration>,
}

impl Shell {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        mut sockets: EventLoop,
        listener: TcpListener,
        member: Member<SocketAddr>,
        feed: Feed,
        (commands, writer): (Receiver<Command>, Arc<WriterPosition>),
        progress: Arc<RelayProgress>,
        notice: Box<dyn Fn(Notice) + Send>,
    ) -> io::Result<Self> {
        sockets.listen(listener)?;
        Ok(Self {
            sockets,
            member,
            feed,
            plaintext: None,
            commands,
            writer,
            progress,
            notice,
            connections: BTreeMap::new(),
            start: Instant::now(),
            spent: Spent::default(),
            waiting: Waiting::default(),
            gather: Gather::default(),
            fed: None,
            tail_told: false,
            stopped: None,
        })
    }

    /// Runs until the relay is stopped.
    pub(super) fn run(&mut self) -> io::Result<()> {
        // Connections may have arrived before the listener was registered.
        self.accept();
        let mut busy = false;
        loop {
            let timeout = if busy { Duration::ZERO } else { TICK };
            let turn = self.sockets.wait(timeout)?;
            let now = self.start.elapsed();
            self.spent.add(self.waiting, now);
            self.gather.wake(now);
            if turn.quiet && !busy {
                self.connections.values_mut().for_each(Connection::doubt);
            }
            if turn.accepting {
                self.accept();
            }
            for (key, event) in &turn.ready {
                let link = LinkId(*key as u64);
                self.with(link, |connection| connection.ready(event).map_err(Lost::from));
            }
            self.obey();
            self.member.on_tick(self.start.elapsed());
            self.drop_ungreeted();
            busy = (0..TURNS).all(|_| self.pump());
            // The writer had no room for some bytes, or holds up a full window: only the writer can continue.
            self.writer.wait(self.plaintext.is_some() || self.member.is_held_by_writer());
            busy |= self.writer.end() > self.member.written();
            if let Some(number) = self.member.spoiled() {
                return Err(io::Error::other(format!(
                    "block {number} was valid on arrival and is damaged now: this machine's memory is faulty"
                )));
            }
            self.spent.add(Waiting::default(), self.start.elapsed());
            self.waiting = self.what_it_waits_for();
            self.progress.set(&self.member, self.spent);
            self.tell();
            if self.is_done() {
                return Ok(());
            }
            if !busy {
                thread::sleep(self.gather.pause(self.start.elapsed()));
            }
        }
    }

    /// Reports the relay's failure to its user.
    pub(super) fn fail(&self, error: &io::Error) {
        (self.notice)(Notice::Failed(error.to_string()));
    }

    fn accept(&mut self) {
        loop {
            match self.sockets.accept() {
                Ok(Some((stream, peer))) => {
                    self.make_room(peer);
                    let link = self.member.new_link();
                    let accepted = Connection::accepted(link, stream, self.start.elapsed()).and_then(
                        |mut connection| {
                            connection.register(&self.sockets)?;
                            Ok(connection)
                        },
                    );
                    match accepted {
                        Ok(connection) => {
                            self.connections.insert(link, connection);
                        }
                        Err(error) => log::warn!("cannot watch the connection from {peer}: {error}"),
                    }
                }
                Ok(None) => return,
                // The process is out of file descriptors for now.
                Err(e) => {
                    log::warn!("cannot accept a connection: {e}");
                    return;
                }
            }
        }
    }

    /// If there are too many unauthenticated connections, drops the oldest. A peer that knows the secret
    /// authenticates at once, so idle strangers never keep a successor out.
    fn make_room(&mut self, peer: SocketAddr) {
        let mut ungreeted = self.connections.values().filter(|c| c.ungreeted.is_some()).map(|c| c.link);
        let oldest = ungreeted.next();
        if let Some(oldest) = oldest.filter(|_| ungreeted.count() + 1 >= MAX_UNGREETED) {
            log::debug!("too many unproven connections: the oldest makes room for {peer}");
            self.lose(oldest, &Lost(Trouble::Silent, "it sent no greeting".into()));
        }
    }

    fn obey(&mut self) {
        let written = self.writer.end();
        if self.writer.has_failed() {
            self.fail_writer();
        } else if written > self.member.written() {
            self.member.on_written(written);
        }
        loop {
            match self.commands.try_recv() {
                Ok(Command::View(view)) => self.member.on_view(view, self.start.elapsed()),
                Ok(Command::Release) => self.member.on_release(),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    let now = self.start.elapsed();
                    self.stopped.get_or_insert(now);
                    return;
                }
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    fn fail_writer(&mut self) {
        self.plaintext = None;
        self.member.on_writer_failed();
    }

    /// Moves everything that can be moved, once. Returns whether anything moved.
    fn pump(&mut self) -> bool {
        let mut moved = self.act();
        moved |= self.read_links();
        moved |= self.exchange_with_feed();
        moved |= self.feed_successor();
        if let Some((link, ack)) = self.member.next_ack() {
            self.with(link, |connection| connection.send(&ack).map_err(Lost::from));
        }
        moved |= self.act();
        moved |= self.write_links();
        moved
    }

    fn what_it_waits_for(&self) -> Waiting {
        let down = self.member.successor_link().and_then(|link| self.connections.get(&link));
        Waiting {
            starved: self.wants_block(),
            output: down.is_some_and(Connection::is_blocked),
            writer: self.member.is_held_by_writer(),
        }
    }

    /// Carries out the member's actions.
    fn act(&mut self) -> bool {
        let mut acted = false;
        loop {
            let actions = self.member.take_actions();
            if actions.is_empty() {
                return acted;
            }
            acted = true;
            for action in actions {
                match action {
                    Action::Dial { link, to, name } => self.dial(link, to.address, name),
                    Action::Accept { link, .. } => {
                        let secret = self.member.secrets().down;
                        self.with(link, |c| c.channel.accept_link(&secret.0).map_err(Lost::from));
                    }
                    Action::Send { link, message } => {
                        self.with(link, |connection| connection.send(&message).map_err(Lost::from));
                    }
                    Action::Close { link } => {
                        self.connections.remove(&link);
                    }
                    Action::Part { link } => self.with(link, |connection| {
                        connection.parting = true;
                        Ok(())
                    }),
                    Action::Complain(report) => (self.notice)(Notice::Complaint(report)),
                }
            }
        }
    }

    fn dial(&mut self, link: LinkId, to: SocketAddr, name: LinkName) {
        let secret = self.member.secrets().up;
        let connection = Channel::dial_link(&secret.0, Preamble::Link(name))
            .map_err(Lost::from)
            .and_then(|channel| Connection::dial(link, to, channel).map_err(Lost::from))
            .and_then(|mut connection| {
                connection.register(&self.sockets)?;
                Ok(connection)
            });
        match connection {
            Ok(connection) => {
                self.connections.insert(link, connection);
            }
            Err(lost) => self.lose(link, &lost),
        }
    }

    /// Reads each link at most once, so that received data travels on before more is read.
    fn read_links(&mut self) -> bool {
        let links: Vec<LinkId> = self.connections.keys().copied().collect();
        let mut moved = false;
        for link in links {
            if self.may_receive(link) {
                // Also if no frame is complete yet: there is no event for data left in the socket.
                moved |= self.read(link);
            }
            while self.may_receive(link) && self.receive(link) {
                moved = true;
            }
        }
        moved
    }

    /// The predecessor has to wait while the window is full.
    fn may_receive(&self, link: LinkId) -> bool {
        let full = self.member.total().is_none() && !self.member.wants_block();
        !(full && self.member.is_predecessor(link))
    }

    fn read(&mut self, link: LinkId) -> bool {
        let Some(connection) = self.connections.get_mut(&link) else { return false };
        match connection.read() {
            Ok(Read::Some) => return true,
            Ok(Read::Nothing) => {}
            Ok(Read::Closed) => self.lose(link, &Lost(Trouble::Reset, "the other side closed it".into())),
            Err(error) => self.lose(link, &error.into()),
        }
        false
    }

    /// Handles one complete message.
    fn receive(&mut self, link: LinkId) -> bool {
        let Some(connection) = self.connections.get_mut(&link) else { return false };
        match connection.channel.receive::<LinkMessage>() {
            Ok(Some(received)) => {
                self.on_received(link, received);
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.lose(link, &error.into());
                false
            }
        }
    }

    /// Only complete frames are a sign of life: with a damaged length, all that follows looks like the rest
    /// of a frame that never ends.
    fn on_received(&mut self, link: LinkId, received: Received<LinkMessage>) {
        let now = self.start.elapsed();
        match received {
            Received::Opening(Preamble::Link(name)) => self.member.on_knock(link, name),
            Received::Opening(Preamble::Control | Preamble::Console | Preamble::ConsoleLog) => {
                self.lose(link, &Lost(Trouble::Impossible, "it is not for data".into()));
            }
            Received::Open => self.member.on_open(link, now),
            Received::Message(message) => {
                if let Some(connection) = self.connections.get_mut(&link) {
                    connection.ungreeted = None;
                }
                self.member.on_message(link, message, now);
            }
            Received::Block(block) => {
                self.gather.block(block.size());
                self.member.on_block(link, block, now);
            }
        }
        self.act();
    }

    fn wants_block(&self) -> bool {
        let early = matches!(self.feed, Feed::Golden(_)) && self.member.lead() >= LEAD;
        self.member.wants_block() && !early
    }

    fn exchange_with_feed(&mut self) -> bool {
        let mut moved = false;
        match &self.feed {
            Feed::Golden(blocks) => {
                while self.wants_block()
                    && let Ok((block, total)) = blocks.try_recv()
                {
                    self.member.push(block, total);
                    moved = true;
                }
            }
            Feed::Node(writer) => {
                while let Some(plaintext) = self.plaintext.take().or_else(|| self.member.next_plaintext()) {
                    match writer.try_send(plaintext) {
                        Ok(()) => moved = true,
                        Err(TrySendError::Full(plaintext)) => {
                            self.plaintext = Some(plaintext);
                            break;
                        }
                        // The reader is gone: it has failed, or it has everything.
                        Err(TrySendError::Disconnected(_)) => {
                            self.fail_writer();
                            break;
                        }
                    }
                }
            }
        }
        moved
    }

    fn feed_successor(&mut self) -> bool {
        let mut moved = false;
        while self
            .member
            .successor_link()
            .and_then(|link| self.connections.get(&link))
            .is_some_and(Connection::wants_block)
            && let Some((link, block)) = self.member.next_block()
        {
            if self.fed.replace(link) != Some(link) {
                let segment = self.connections.get(&link).map_or(0, Connection::segment);
                self.progress.segment.store(segment, Ordering::Relaxed);
            }
            self.with(link, |connection| {
                connection.channel.send_block(block);
                Ok(())
            });
            moved = true;
        }
        moved
    }

    fn write_links(&mut self) -> bool {
        let links: Vec<LinkId> = self.connections.keys().copied().collect();
        let mut moved = false;
        for link in links {
            self.with(link, |connection| {
                moved |= connection.write()?;
                Ok(())
            });
            if self.connections.get(&link).is_some_and(|c| c.parting && c.channel.queued() == 0) {
                self.connections.remove(&link);
            }
        }
        moved
    }

    fn drop_ungreeted(&mut self) {
        let now = self.start.elapsed();
        let late: Vec<LinkId> = self
            .connections
            .values()
            .filter(|c| c.ungreeted.is_some_and(|since| now.saturating_sub(since) > PATIENCE))
            .map(|c| c.link)
            .collect();
        for link in late {
            self.lose(link, &Lost(Trouble::Silent, "it sent no greeting".into()));
        }
    }

    fn tell(&mut self) {
        if let Some(_total) = self.member.total()
            && !self.tail_told
            && self.member.tail_position() == self.member.verified()
        {
            self.tail_told = true;
            (self.notice)(Notice::TailComplete);
        }
    }

    fn is_done(&self) -> bool {
        self.stopped.is_some_and(|since| {
            let late = self.start.elapsed().saturating_sub(since) > LINGER;
            late || self.connections.values().all(|c| !c.parting || c.channel.queued() == 0)
        })
    }

    /// Runs an operation on a connection; if it fails, the connection is lost.
    fn with(&mut self, link: LinkId, work: impl FnOnce(&mut Connection) -> Result<(), Lost>) {
        if let Some(connection) = self.connections.get_mut(&link)
            && let Err(lost) = work(connection)
        {
            self.lose(link, &lost);
        }
    }

    fn lose(&mut self, link: LinkId, lost: &Lost) {
        log::debug!("link {} is lost: {}", link.0, lost.1);
        self.connections.remove(&link);
        self.member.on_lost(link, lost.0);
    }
}

/// Why a connection is dropped.
struct Lost(Trouble, String);

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self(Trouble::Reset, error.to_string())
    }
}

impl From<ChannelError> for Lost {
    fn from(error: ChannelError) -> Self {
        Self(Trouble::Damaged, error.to_string())
    }
}
