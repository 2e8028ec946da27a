//! Port 12345 of a node: what it does, its log, commands and a shell, for the controller alone.
//!
//! It is a child of PID 1 beside the work, from the first moment of stage1 until the reboot, and the two share only
//! files: the log, the node's key of this boot, and the step that it is at ([`trace`]). So nothing that a viewer does
//! holds up the work. Each viewer has a thread, which reads no further than the viewer takes; their number is limited,
//! and those that prove nothing make room (`places`).

mod conversation;
mod log_tail;
mod places;
mod process;
mod server;
pub(crate) mod shells;
pub mod trace;

use std::path::PathBuf;
use std::time::Duration;

use ka::keys::JoinKey;
use ka::wire::console::{BEAT, SILENCE};

pub use server::serve;

/// What a node's console shows, and to whom.
#[derive(Clone, Debug)]
pub struct Console {
    /// The join key of the boot image: its controller, and no other, is let in.
    pub join: JoinKey,
    /// Where the work leaves the node's key of this boot.
    pub key: PathBuf,
    /// Where the work leaves the step that it is at.
    pub step: PathBuf,
    /// The node's log.
    pub log: PathBuf,
    /// Where commands run: the first of these roots that is ready and has a shell.
    pub roots: Vec<PathBuf>,
    /// Limits.
    pub limits: Limits,
}

/// How many may look, and how long they may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Viewers that have proven to be the controller.
    pub proven: usize,
    /// Connections that have not, or not yet.
    pub unproven: usize,
    /// How long a connection may take to prove itself.
    pub patience: Duration,
    /// How long a viewer may say nothing, or take nothing.
    pub silence: Duration,
    /// How often this side says that it is there.
    pub beat: Duration,
    /// How long a shell may stay open while nothing is typed and nothing shown.
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
