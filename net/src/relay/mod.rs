//! One event loop around the chain's member: links, window memory, the writer.
//!
//! The loop runs in a thread of its own, touches no disk, and so never waits for one. The golden node
//! runs it too, fed by its producer instead of a predecessor.

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

use ka::chain::{Member, Offset, Plain, Report, Spent, Standing, View};
use ka::seal::{Block, Total};
use mio::Waker;
use rustix::process::setpriority_process;
use rustix::thread::gettid;

use crate::event_loop::EventLoop;
pub use reader::{StreamError, StreamReader};

/// Blocks that may wait between the golden node's producer and the loop: few, so that large ones are still in a cache.
pub const QUEUE: usize = 8;
/// Batches that may wait between the loop and a node's writer.
pub const BATCHES: usize = 4;

/// The relay thread's niceness.
const PRIORITY: i32 = -10;

/// What the relay is told.
#[derive(Debug)]
pub enum Command {
    /// The member's new place.
    View(View<SocketAddr>),
    /// Everybody behind has everything.
    Release,
    /// The stream is given up.
    Stop,
}

/// What a node's writer tells its relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromWriter {
    /// It has taken everything before this place.
    Written(Offset),
    /// It has failed: relay only.
    Failed,
}

/// What the relay tells.
#[derive(Debug)]
pub enum Notice {
    /// A neighbour is lost or does harm.
    Complaint(Report),
    /// On the golden node: everybody in the chain has verified everything.
    TailComplete,
    /// The relay itself has failed and moves nothing any more.
    Failed(String),
}

/// Where the loop's blocks come from or go to.
pub enum Feed {
    /// The golden node's producer.
    Golden(Receiver<(Block, Option<Total>)>),
    /// A node's writer.
    Node(SyncSender<Plain>),
}

/// How far the relay is, for whoever watches.
#[derive(Debug, Default)]
pub struct RelayProgress {
    /// The verified position.
    pub verified: AtomicU64,
    /// What the writer has taken.
    pub written: AtomicU64,
    /// The lowest verified position of the member and all behind it.
    pub tail: AtomicU64,
    /// The bytes of a full TCP segment on the link to the successor; 0 as long as there was none.
    pub segment: AtomicU64,
    /// Where the loop's time went.
    spent: Mutex<Spent>,
}

impl RelayProgress {
    /// All that tells whether the member is slow, or waits for others.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
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

/// How far the writer is. The relay looks by itself whenever it does something, so that it is only woken when it
/// has nothing to do before the writer has gone on.
#[derive(Debug, Default)]
struct WriterPosition {
    end: AtomicU64,
    failed: AtomicBool,
    awaited: AtomicBool,
}

impl WriterPosition {
    /// The writer's side; whether the relay must be woken. One of the two always sees the other: each first stores
    /// and then loads, in an order that all threads agree on.
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

    /// The relay's side, before it looks for the last time.
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

/// Talks to a running relay.
#[derive(Clone)]
pub struct Handle {
    commands: Sender<Command>,
    writer: Arc<WriterPosition>,
    waker: Arc<Waker>,
}

impl Handle {
    /// Tells the relay something; one that has ended no longer cares.
    pub fn tell(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.wake();
        }
    }

    /// The writer tells the relay something.
    pub fn hear(&self, news: FromWriter) {
        if self.writer.set(news) {
            self.wake();
        }
    }

    /// Makes the relay look at its queues.
    pub fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the relay: {error}");
        }
    }
}

impl Relay {
    /// Starts the relay of `member`, whose successors come to `listener`.
    ///
    /// # Errors
    /// The system's, when it has no thread or event queue left.
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

    /// What tells the relay things.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> &Arc<RelayProgress> {
        &self.progress
    }
}

/// Lets this thread run before others: it needs little, but what it is late, everybody behind is late as well,
/// and no line makes up for it. An ordinary user may not do that, and has the priority that he has.
fn go_first() {
    if let Err(error) = setpriority_process(Some(gettid()), PRIORITY) {
        log::debug!("the relay has no priority over other threads: {error}");
    }
}

impl Drop for Relay {
    /// Ends the loop; what is queued for a neighbour after a release is still written.
    fn drop(&mut self) {
        self.handle.tell(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the relay's thread has panicked");
        }
    }
}
