//! The event loop around a chain member: links, window memory, the writer.
//!
//! The loop runs in its own thread and does no disk I/O, so it never waits for a disk. The golden node runs
//! it too, with its producer in place of a predecessor.

mod ahead;
mod connection;
mod gather;
mod reader;
mod shell;
pub mod window;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{io, thread};

use ka::chain::{Member, Offset, Plaintext, ProgressSample, Report, Spent, View};
use ka::seal::{Block, Total};
use mio::Waker;
use rustix::process::setpriority_process;
use rustix::thread::gettid;

use crate::event_loop::EventLoop;
pub use reader::{StreamError, StreamReader};

/// Blocks that may be queued between the golden node's producer and the loop: few, so that large ones are
/// still in a cache.
pub const QUEUE: usize = 8;
/// Batches that may be queued between the loop and a node's writer.
pub const BATCHES: usize = 4;

/// The relay thread's niceness.
const PRIORITY: i32 = -10;

/// A command to the relay.
#[derive(Debug)]
pub enum Command {
    /// The member's new place.
    View(View<SocketAddr>),
    /// All members behind have everything.
    Release,
    /// The stream is abandoned.
    Stop,
}

/// A report of a node's writer to its relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromWriter {
    /// It has consumed everything before this offset.
    Written(Offset),
    /// It has failed: the node only relays from now on.
    Failed,
}

/// A notice from the relay.
#[derive(Debug)]
pub enum Notice {
    /// A neighbour is lost or misbehaves.
    Complaint(Report),
    /// On the golden node: every member of the chain has verified everything.
    TailComplete,
    /// The relay itself has failed and no longer moves anything.
    Failed(String),
}

/// The source or destination of the loop's blocks.
pub enum Feed {
    /// The golden node's producer.
    Golden(Receiver<(Block, Option<Total>)>),
    /// A node's writer.
    Node(SyncSender<Plaintext>),
}

/// The relay's progress, for other threads.
#[derive(Debug, Default)]
pub struct RelayProgress {
    /// The verified offset.
    pub verified: AtomicU64,
    /// The offset up to which the writer has consumed the stream.
    pub written: AtomicU64,
    /// The lowest verified offset of the member and all members behind it.
    pub tail: AtomicU64,
    /// The bytes of a full TCP segment on the link to the successor; 0 before there was one.
    pub segment: AtomicU64,
    /// How the loop spent its time.
    spent: Mutex<Spent>,
}

impl RelayProgress {
    /// All values that show whether the member is slow or waits for others.
    #[must_use]
    pub fn sample(&self) -> ProgressSample {
        ProgressSample {
            spent: self.spent.lock().map_or_else(|poisoned| *poisoned.into_inner(), |spent| *spent),
            verified: Offset(self.verified.load(Ordering::Relaxed)),
            written: Offset(self.written.load(Ordering::Relaxed)),
        }
    }

    fn set(&self, member: &Member<SocketAddr>, spent: Spent) {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner) = spent;
        self.verified.store(member.verified().0, Ordering::Relaxed);
        self.written.store(member.written().0, Ordering::Relaxed);
        self.tail.store(member.tail_position().0, Ordering::Relaxed);
    }
}

/// The writer's position. The relay checks it on every iteration, so it must be woken only if it has nothing
/// to do before the writer advances.
#[derive(Debug, Default)]
struct WriterPosition {
    end: AtomicU64,
    failed: AtomicBool,
    awaited: AtomicBool,
}

impl WriterPosition {
    /// The writer's side. Returns whether the relay must be woken. One of the two sides always sees the
    /// other: each first stores and then loads, with sequentially consistent ordering.
    fn set(&self, news: FromWriter) -> bool {
        match news {
            FromWriter::Written(end) => {
                self.end.store(end.0, Ordering::SeqCst);
                self.awaited.swap(false, Ordering::SeqCst)
            }
            FromWriter::Failed => {
                self.failed.store(true, Ordering::SeqCst);
                true
            }
        }
    }

    /// The relay's side, before its last check.
    fn wait(&self, awaited: bool) {
        self.awaited.store(awaited, Ordering::SeqCst);
    }

    fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::SeqCst))
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }
}

/// A running relay.
pub struct Relay {
    handle: Handle,
    progress: Arc<RelayProgress>,
    thread: Option<JoinHandle<()>>,
}

/// A handle to a running relay.
#[derive(Clone)]
pub struct Handle {
    commands: Sender<Command>,
    writer: Arc<WriterPosition>,
    waker: Arc<Waker>,
}

impl Handle {
    /// Sends a command to the relay; without effect if it has ended.
    pub fn tell(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.wake();
        }
    }

    /// Sends a report of the writer to the relay.
    pub fn hear(&self, news: FromWriter) {
        if self.writer.set(news) {
            self.wake();
        }
    }

    /// Makes the relay check its queues.
    pub fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the relay: {error}");
        }
    }
}

impl Relay {
    /// Starts the relay of `member`, whose successors connect to `listener`.
    ///
    /// # Errors
    /// The system's error, if it has no threads or event queues left.
    pub fn start(
        member: Member<SocketAddr>,
        listener: TcpListener,
        feed: Feed,
        notice: impl Fn(Notice) + Send + 'static,
    ) -> io::Result<Self> {
        let sockets = EventLoop::new(64)?;
        let waker = sockets.waker();
        let (sender, commands) = channel();
        let progress = Arc::new(RelayProgress::default());
        let writer = Arc::new(WriterPosition::default());
        let mut shell = shell::Shell::new(
            sockets,
            listener,
            member,
            feed,
            (commands, Arc::clone(&writer)),
            Arc::clone(&progress),
            Box::new(notice),
        )?;
        let thread = thread::Builder::new().name("relay".into()).spawn(move || {
            go_first();
            if let Err(error) = shell.run() {
                log::error!("the relay has failed: {error}");
                shell.fail(&error);
            }
        })?;
        Ok(Self { handle: Handle { commands: sender, writer, waker }, progress, thread: Some(thread) })
    }

    /// A handle that sends commands to the relay.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The relay's progress.
    #[must_use]
    pub fn progress(&self) -> &Arc<RelayProgress> {
        &self.progress
    }
}

/// Gives this thread priority over others: it needs little time, but its delays delay all members behind, and
/// no line makes up for them. An unprivileged user cannot do that, and keeps the normal priority.
fn go_first() {
    if let Err(error) = setpriority_process(Some(gettid()), PRIORITY) {
        log::debug!("the relay runs without priority over other threads: {error}");
    }
}

impl Drop for Relay {
    /// Ends the loop. After a release, messages queued for a neighbour are still written.
    fn drop(&mut self) {
        self.handle.tell(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the relay's thread has panicked");
        }
    }
}
