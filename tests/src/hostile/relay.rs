//! An admitted member that relays as it should, but for one block that it makes itself.
#![allow(clippy::missing_errors_doc, reason = "a helper of tests fails as sockets do")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ka::chain::{LinkMessage, LinkName, NodeId, Offset, Report, Trouble, View};
use ka::failure::{Failure, FailureKind};
use ka::keys::JoinKey;
use ka::seal::{Block, Opener, Sealer, StreamId, StreamKey, Total};
use ka::step::Step;
use ka::wire::channel::{Channel, Received};
use ka::wire::control::{Progress, ToAgent, ToController};
use ka::wire::preamble::Preamble;

use super::agent::{Agent, flush, receive};

/// How often it says that it lives.
const BEAT: Duration = Duration::from_millis(200);

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Bytes of the stream that it received.
    pub stream: u64,
    /// Bytes of the controller's proofs, as messages.
    pub proofs: u64,
    /// How many proofs.
    pub count: u64,
    /// Blocks that it changed.
    pub forged: u64,
}

/// What it does beside relaying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// The block with this number has a byte changed for whoever is behind it.
    Forge(u64),
    /// It complains of its neighbours, though it goes on with them.
    Accuse,
}

/// Joins `session` as a host with this card, relays the stream to its end and says that its copy is complete.
pub fn relay(
    controller: SocketAddr,
    join: &JoinKey,
    (session, name, card): (&str, &str, &str),
    lie: Lie,
) -> io::Result<Told> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    listener.set_nonblocking(true)?;
    let mut agent = Agent::dial(controller, join)?;
    agent.join(session, name, card, listener.local_addr()?.port())?;
    let mut member = Member { listener, agent, me: None, stream: None, told: Told::default(), lie };
    member.run()?;
    Ok(member.told)
}

struct Member {
    listener: TcpListener,
    agent: Agent,
    me: Option<NodeId>,
    stream: Option<Stream>,
    told: Told,
    lie: Lie,
}

/// One stream as it passes through.
struct Stream {
    key: StreamKey,
    opener: Opener,
    sealer: Option<Sealer>,
    /// What it passes on, and where each block begins.
    blocks: Vec<(Offset, Block)>,
    end: Offset,
    total: Option<Total>,
    view: Option<View<SocketAddr>>,
    up: Option<Link>,
    down: Option<Link>,
    /// What its successor says of all behind it.
    tail: Offset,
    acked: Offset,
    complete_said: bool,
}

struct Link {
    stream: TcpStream,
    channel: Channel,
    bytes: u64,
    /// The next block for the other end, once it has said where it is.
    next: Option<usize>,
}

impl Member {
    fn run(&mut self) -> io::Result<()> {
        let mut beat = Instant::now();
        loop {
            match self.agent.hear(Duration::ZERO)? {
                Some(ToAgent::Bye) => return Ok(()),
                Some(message) => self.obey(message)?,
                None => {}
            }
            if beat.elapsed() > BEAT {
                beat = Instant::now();
                self.beat()?;
                self.accuse()?;
            }
            let Some(stream) = &mut self.stream else { continue };
            stream.accept(&self.listener)?;
            stream.receive(&mut self.told, self.lie)?;
            stream.pass_on()?;
            stream.ack(self.me);
            if let (Some(total), false) = (stream.total, stream.complete_said) {
                stream.complete_said = true;
                let stream = stream.key.stream;
                self.agent.say(&ToController::Complete { stream, total })?;
                self.agent.say(&ToController::Done)?;
            }
        }
    }

    fn obey(&mut self, message: ToAgent) -> io::Result<()> {
        match message {
            ToAgent::Welcome { ticket, .. } => self.me = Some(ticket.node),
            ToAgent::Refused { reason } => return Err(io::Error::other(reason)),
            ToAgent::Stream(start) => self.stream = Some(Stream::new(start.key.clone())),
            ToAgent::View { view, .. } => {
                if let (Some(stream), Some(me)) = (&mut self.stream, self.me) {
                    stream.take_place(view, me)?;
                }
            }
            ToAgent::Abort { stream, reason } => self.give_up(stream, reason)?,
            ToAgent::Proof { .. } => {
                self.told.count += 1;
                self.told.proofs += postcard::to_stdvec(&message).map_err(io::Error::other)?.len() as u64;
            }
            ToAgent::Probe => self.beat()?,
            _ => {}
        }
        Ok(())
    }

    /// As an honest node whose stream was given up: it waits for another one.
    fn give_up(&mut self, stream: StreamId, reason: String) -> io::Result<()> {
        if self.stream.take_if(|running| running.key.stream == stream).is_some() {
            let kind = FailureKind::Aborted { reason };
            let failure = Failure::transient(Step::Receive, kind).with(stream);
            self.agent.say(&ToController::Failed(failure))?;
            self.agent.say(&ToController::Done)?;
        }
        Ok(())
    }

    fn accuse(&mut self) -> io::Result<()> {
        let (Lie::Accuse, Some(stream)) = (self.lie, &self.stream) else { return Ok(()) };
        let Some(view) = &stream.view else { return Ok(()) };
        let id = stream.key.stream;
        let (epoch, trouble) = (view.epoch, Trouble::Impossible);
        let neighbours = [view.successor, view.predecessor_id()];
        for about in neighbours.into_iter().flatten() {
            let report = Report { epoch, about, trouble };
            self.agent.say(&ToController::Complaint { stream: id, report })?;
        }
        Ok(())
    }

    fn beat(&mut self) -> io::Result<()> {
        let at = self.stream.as_ref().map(|stream| stream.end).unwrap_or_default();
        let progress = Progress { verified: at, written: at, ..Progress::default() };
        self.agent.say(&ToController::Heartbeat(progress))
    }
}

impl Stream {
    fn new(key: StreamKey) -> Self {
        Self {
            opener: Opener::new(&key),
            sealer: Some(Sealer::new(&key)),
            key,
            blocks: Vec::new(),
            end: Offset(0),
            total: None,
            view: None,
            up: None,
            down: None,
            tail: Offset(0),
            acked: Offset(0),
            complete_said: false,
        }
    }

    fn take_place(&mut self, view: View<SocketAddr>, me: NodeId) -> io::Result<()> {
        if self.view.as_ref().is_some_and(|old| old.epoch >= view.epoch) {
            return Ok(());
        }
        (self.up, self.down) = (None, None);
        if let Some(predecessor) = &view.predecessor {
            let stream = self.key.stream;
            let name = LinkName { stream, epoch: view.epoch, from: predecessor.id, to: me };
            let mut socket = TcpStream::connect(predecessor.address)?;
            socket.set_nonblocking(true)?;
            let mut channel =
                Channel::dial_link(&view.secrets.up.0, Preamble::Link(name)).map_err(io::Error::other)?;
            flush(&mut socket, &mut channel)?;
            self.up = Some(Link { stream: socket, channel, bytes: 0, next: None });
        }
        self.view = Some(view);
        Ok(())
    }

    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        if self.down.is_none()
            && let Ok((stream, _)) = listener.accept()
        {
            stream.set_nonblocking(true)?;
            self.down = Some(Link { stream, channel: Channel::answer(), bytes: 0, next: None });
        }
        Ok(())
    }

    fn receive(&mut self, told: &mut Told, lie: Lie) -> io::Result<()> {
        let Some(mut link) = self.up.take() else { return Ok(()) };
        // Whoever closes may have been released.
        while let Ok(received) = link.receive() {
            match received {
                None => {
                    self.up = Some(link);
                    break;
                }
                Some(Received::Open) => {
                    link.say(&LinkMessage::Hello { verified: self.end, tail: self.tail })?;
                }
                Some(Received::Block(block)) => {
                    told.stream += block.size();
                    let block = self.take(&block, told, lie)?;
                    let start = self.end;
                    self.end = start.plus(block.size());
                    self.blocks.push((start, block));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The block as it is passed on.
    fn take(&mut self, block: &Block, told: &mut Told, lie: Lie) -> io::Result<Block> {
        let number = self.blocks.len() as u64;
        let mut plain = Vec::new();
        let total = self.opener.open(block, number, &mut plain).map_err(io::Error::other)?;
        if lie == Lie::Forge(number)
            && let Some(byte) = plain.last_mut()
        {
            *byte ^= 1;
            told.forged += 1;
        }
        self.total = total;
        match total {
            // Its sealer ends with it.
            Some(total) => match self.sealer.take() {
                Some(sealer) => sealer.finish(&total).map_err(io::Error::other),
                None => Ok(block.clone()),
            },
            None => match &mut self.sealer {
                Some(sealer) => sealer.seal(&plain).map_err(io::Error::other),
                None => Ok(block.clone()),
            },
        }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let (Some(mut link), Some(view)) = (self.down.take(), &self.view) else { return Ok(()) };
        loop {
            match link.receive() {
                // A successor of another epoch, or one that was released.
                Err(_) => return Ok(()),
                Ok(None) => break,
                Ok(Some(Received::Opening(_))) => {
                    if link.channel.accept_link(&view.secrets.down.0).is_err() {
                        return Ok(());
                    }
                    flush(&mut link.stream, &mut link.channel)?;
                }
                Ok(Some(Received::Message(LinkMessage::Hello { verified, tail }))) => {
                    link.next = self
                        .blocks
                        .iter()
                        .position(|(start, _)| *start == verified)
                        .or_else(|| (verified == self.end).then_some(self.blocks.len()));
                    self.tail = self.tail.max(tail);
                }
                Ok(Some(Received::Message(LinkMessage::Ack { tail, .. }))) => {
                    self.tail = self.tail.max(tail);
                }
                Ok(Some(_)) => {}
            }
        }
        while let Some((_, block)) = link.next.and_then(|next| self.blocks.get(next)) {
            link.channel.send_block(block.clone());
            link.next = link.next.map(|next| next + 1);
            if flush(&mut link.stream, &mut link.channel).is_err() {
                return Ok(());
            }
        }
        self.down = Some(link);
        Ok(())
    }

    /// The last one behind it has all of this, or it has if nobody is behind it.
    fn ack(&mut self, me: Option<NodeId>) {
        let (Some(me), Some(view), Some(link)) = (me, &self.view, &mut self.up) else { return };
        let tail = if view.successor.is_some() { self.tail } else { self.end };
        if tail > self.acked {
            self.acked = tail;
            // A predecessor that was released is gone.
            if link.say(&LinkMessage::Ack { epoch: view.epoch, from: me, tail }).is_err() {
                self.up = None;
            }
        }
    }
}

impl Link {
    fn receive(&mut self) -> io::Result<Option<Received<LinkMessage>>> {
        receive(&mut self.stream, &mut self.channel, &mut self.bytes)
    }

    fn say(&mut self, message: &LinkMessage) -> io::Result<()> {
        self.channel.send(message).map_err(io::Error::other)?;
        flush(&mut self.stream, &mut self.channel)
    }
}
