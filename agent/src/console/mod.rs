//! Port 12345 of a node: shows what the node does and its log, and runs commands and a shell, for the
//! controller alone.
//!
//! The console is a child of PID 1 next to the work, from the first moment of stage1 until the reboot. The
//! two share only files: the log, the node's key of this boot, and the current step ([`trace`]). So no viewer
//! can hold up the work. Each viewer has a thread, which reads no further than the viewer takes. The number
//! of viewers is limited, and unauthenticated ones make room (`slots`).

mod conversation;
mod log_tail;
mod process;
mod server;
pub(crate) mod shells;
mod slots;
pub mod trace;

use std::path::PathBuf;
use std::time::Duration;

use ka::keys::JoinKey;
use ka::wire::console::{BEAT, SILENCE};

pub use server::serve;

/// What a node's console shows, and to which viewers.
#[derive(Clone, Debug)]
pub struct Console {
    /// The join key in the boot image: only its controller is let in.
    pub join: JoinKey,
    /// Where the work stores the node's key of this boot.
    pub key: PathBuf,
    /// Where the work stores its current step.
    pub step: PathBuf,
    /// The node's log.
    pub log: PathBuf,
    /// Where commands run: the first of these roots that is ready and has a shell.
    pub roots: Vec<PathBuf>,
    /// Limits.
    pub limits: Limits,
}

/// The number of viewers, and how long they may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The maximum number of authenticated viewers.
    pub proven: usize,
    /// The maximum number of connections that are not authenticated yet.
    pub unproven: usize,
    /// How long a connection may take to authenticate.
    pub patience: Duration,
    /// How long a viewer may send nothing, or take nothing.
    pub silence: Duration,
    /// The interval of this side's keepalives.
    pub beat: Duration,
    /// How long a shell may stay open while nothing is typed or shown.
    pub unused: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            proven: 32,
            unproven: 32,
            patience: Duration::from_secs(10),
            silence: SILENCE,
            beat: BEAT,
            unused: Duration::from_secs(3600),
        }
    }
}
