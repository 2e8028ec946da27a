//! The connection of one viewer, from its first byte to its last.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use ka::shown;
use ka::wire::channel::{Channel, Received};
use ka::wire::console::{End, MAX_REQUEST, Open, Request, State, ToNode, ToViewer, VERSION};
use ka::wire::preamble::Preamble;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

use super::log_tail::LogTail;
use super::process::Running;
use super::slots::Slot;
use super::{Console, trace};

/// How many bytes may be queued for a viewer before its requests are no longer read.
const MAX_QUEUED: usize = 128 << 10;
/// How often a followed log, and a command's end, are checked.
const LOOK: Duration = Duration::from_millis(50);

/// A connection with its viewer.
pub(super) struct Conversation<'a> {
    console: &'a Console,
    stream: TcpStream,
    channel: Channel,
    peer: IpAddr,
    slot: Slot,
    /// The viewer has proven to mean this very node, and may do more than look.
    of_this_node: bool,
    opened_at: Instant,
    heard_at: Instant,
    said_at: Instant,
    /// When the viewer last took a byte, or its queue was empty.
    took_at: Instant,
    /// When something was last typed or shown.
    used_at: Instant,
}

/// What a viewer gets.
enum Work {
    /// Nothing except the last message, which is queued.
    Done,
    Log(LogTail),
    Process(Box<Running>),
}

impl<'a> Conversation<'a> {
    pub(super) fn new(console: &'a Console, stream: TcpStream, peer: IpAddr, slot: Slot) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut channel = Channel::answer();
        channel.limit(MAX_REQUEST);
        let now = Instant::now();
        Ok(Self {
            console,
            stream,
            channel,
            peer,
            slot,
            of_this_node: false,
            opened_at: now,
            heard_at: now,
            said_at: now,
            took_at: now,
            used_at: now,
        })
    }

    /// Runs until either side ends it.
    pub(super) fn hold(mut self) {
        let open = match self.opening() {
            Ok(open) => open,
            Err(reason) => {
                log::debug!("{} is not a viewer: {reason}", self.peer);
                return;
            }
        };
        let who = format!("{} ({})", shown::field(&open.who), self.peer);
        let work = self.begin(&open, &who);
        let what = describe(&open.request);
        let outcome = match work {
            Ok(work) => self.serve(work),
            Err(reason) => {
                log::warn!("console: {who} {what}: refused: {reason}");
                self.say(&ToViewer::Refused { reason }).and_then(|()| self.serve(Work::Done))
            }
        };
        match (outcome, acts(&open.request)) {
            (Ok(Some(end)), true) => log::info!("console: {who} {what}: {}", said(end)),
            (Err(reason), true) => log::warn!("console: {who} {what}: ended: {reason}"),
            (Err(reason), false) => log::info!("console: {who} has gone: {reason}"),
            _ => {}
        }
    }

    /// The handshake and the first message.
    fn opening(&mut self) -> Result<Open, String> {
        loop {
            match self.channel.receive::<ToNode>().map_err(|e| e.to_string())? {
                Some(Received::Opening(Preamble::Console)) => {
                    let own = trace::key(&self.console.key).ok_or("this node has no key yet")?;
                    self.channel
                        .accept_console(&own, &self.console.join.controller)
                        .map_err(|e| e.to_string())?;
                    self.of_this_node = true;
                }
                Some(Received::Opening(Preamble::ConsoleLog)) => {
                    self.channel.accept_console_log(&self.console.join).map_err(|e| e.to_string())?;
                }
                Some(Received::Message(ToNode::Open(open))) => return Ok(open),
                Some(_) => return Err("it does not open a console".into()),
                None => {
                    let left = self.console.limits.patience.checked_sub(self.opened_at.elapsed());
                    self.wait(None, left.ok_or("it has not proven itself in time")?)?;
                    self.write()?;
                    self.read()?;
                }
            }
        }
    }

    /// Starts what was requested.
    fn begin(&mut self, open: &Open, who: &str) -> Result<Work, String> {
        self.slot.prove().map_err(|viewers| format!("{viewers} others look at this node already"))?;
        open.check().map_err(|e| e.to_string())?;
        if !self.of_this_node && !open.only_looks() {
            return Err("only the log can be read without this node's key of this boot".into());
        }
        self.say(&ToViewer::State(self.state()))?;
        match &open.request {
            Request::State => {
                self.say(&ToViewer::Ended(End::Whole))?;
                Ok(Work::Done)
            }
            Request::Log { last, follow } => {
                let log = &self.console.log;
                let tail = LogTail::open(log, *last, *follow);
                Ok(Work::Log(tail.map_err(|e| format!("the log {}: {e}", log.display()))?))
            }
            Request::Exec { command } => {
                log::info!("console: {who} {}", describe(&open.request));
                Ok(Work::Process(Box::new(Running::exec(&self.console.roots, command)?)))
            }
            Request::Shell { term, size } => {
                log::info!("console: {who} {}", describe(&open.request));
                Ok(Work::Process(Box::new(Running::shell(&self.console.roots, term, *size)?)))
            }
        }
    }

    fn state(&self) -> State {
        let boot = clock_gettime(ClockId::Boottime);
        let uptime = boot.tv_sec.saturating_mul(1000).saturating_add(boot.tv_nsec / 1_000_000);
        State {
            version: VERSION,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: u64::try_from(uptime).unwrap_or_default(),
            step: trace::step(&self.console.step),
        }
    }

    /// Sends until everything is sent. Returns the outcome if it ended by itself.
    fn serve(&mut self, mut work: Work) -> Result<Option<End>, String> {
        let mut ended = None;
        loop {
            while !matches!(work, Work::Done) && self.channel.queued() < MAX_QUEUED {
                let Some(message) = work.next().map_err(|e| e.to_string())? else { break };
                self.used_at = Instant::now();
                self.say(&message)?;
                if let ToViewer::Ended(end) = message {
                    ended = Some(end);
                    work = Work::Done;
                }
            }
            self.write()?;
            if matches!(work, Work::Done) && self.channel.queued() == 0 {
                return Ok(ended);
            }
            self.wait(Some(&work), LOOK)?;
            if work.has_room() {
                self.read()?;
            }
            while let Some(received) = self.channel.receive::<ToNode>().map_err(|e| e.to_string())? {
                match (received, &mut work) {
                    (Received::Message(ToNode::Input(bytes)), Work::Process(running)) => {
                        self.used_at = Instant::now();
                        running.types(&bytes);
                    }
                    (Received::Message(ToNode::Resize(size)), Work::Process(running)) => running.resize(size),
                    (Received::Message(ToNode::Input(_) | ToNode::Resize(_) | ToNode::Alive), _) => {}
                    _ => return Err("it sent an unexpected message".into()),
                }
            }
            if let Work::Process(running) = &mut work {
                running.pass_on();
            }
            self.look_at_the_clock(&work)?;
        }
    }

    fn look_at_the_clock(&mut self, work: &Work) -> Result<(), String> {
        let limits = &self.console.limits;
        let silent = |what: &str| Err(format!("{what} for {} s", limits.silence.as_secs()));
        if self.heard_at.elapsed() > limits.silence && work.has_room() {
            return silent("it printed nothing");
        }
        if self.took_at.elapsed() > limits.silence {
            return silent("it took nothing");
        }
        if matches!(work, Work::Process(_)) && self.used_at.elapsed() > limits.unused {
            return Err(format!("nothing was typed or shown for {} s", limits.unused.as_secs()));
        }
        if self.said_at.elapsed() > limits.beat {
            self.say(&ToViewer::Alive)?;
        }
        Ok(())
    }

    fn say(&mut self, message: &ToViewer) -> Result<(), String> {
        if self.channel.queued() == 0 {
            self.took_at = Instant::now();
        }
        self.said_at = Instant::now();
        self.channel.send(message).map_err(|e| e.to_string())
    }

    fn write(&mut self) -> Result<(), String> {
        let length = self.channel.write_to(&mut self.stream).map_err(|e| e.to_string())?;
        if length > 0 || self.channel.queued() == 0 {
            self.took_at = Instant::now();
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), String> {
        match self.channel.read_from(&mut self.stream) {
            Ok(0) => Err("it closed the connection".into()),
            Ok(_) => {
                self.heard_at = Instant::now();
                Ok(())
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Waits until there is something to do, for at most `time`.
    fn wait(&self, work: Option<&Work>, time: Duration) -> Result<(), String> {
        let mut events = PollFlags::empty();
        if work.is_none_or(Work::has_room) {
            events |= PollFlags::IN;
        }
        if self.channel.queued() > 0 {
            events |= PollFlags::OUT;
        }
        let mut fds = vec![PollFd::new(&self.stream, events)];
        if let Some(Work::Process(running)) = work {
            if self.channel.queued() < MAX_QUEUED {
                fds.extend(running.outputs().map(|from| PollFd::new(from, PollFlags::IN)));
            }
            fds.extend(running.takes().map(|terminal| PollFd::new(terminal, PollFlags::OUT)));
        }
        match poll(&mut fds, Timespec::try_from(time).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.to_string()),
        }
    }
}

impl Work {
    fn next(&mut self) -> io::Result<Option<ToViewer>> {
        match self {
            Self::Done => Ok(None),
            Self::Log(tail) => Ok(match tail.piece()? {
                Some(bytes) => Some(ToViewer::Bytes(bytes)),
                None => (!tail.follow).then_some(ToViewer::Ended(End::Whole)),
            }),
            Self::Process(running) => running.next(),
        }
    }

    /// Whether more requests of the viewer can be read.
    fn has_room(&self) -> bool {
        if let Self::Process(running) = self { running.has_room() } else { true }
    }
}

/// Whether a request changes something, so that its end is worth a log line.
fn acts(request: &Request) -> bool {
    matches!(request, Request::Exec { .. } | Request::Shell { .. })
}

fn describe(request: &Request) -> String {
    match request {
        Request::State => "asks for the state".into(),
        Request::Log { .. } => "reads the log".into(),
        Request::Exec { command } => {
            format!("executes: {}", shown::reason(&String::from_utf8_lossy(command)))
        }
        Request::Shell { .. } => "opens a shell".into(),
    }
}

fn said(end: End) -> String {
    match end {
        End::Whole => "done".into(),
        End::Exited(status) => format!("exit status {status}"),
        End::Killed(signal) => format!("ended by signal {signal}"),
    }
}
