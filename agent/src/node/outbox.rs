//! What the node sends to the controller besides its data: its steps and its log.
//!
//! The log is sent in pieces, one with each step, so that the controller has all but the last lines of a node
//! that dies.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use ka::step::Doing;
use ka::wire::control::ToController;

use crate::init::log::FILE;
use crate::session::ControllerSender;

/// The maximum size of one log message.
const PIECE: usize = 256 * 1024;

/// Sends a node's steps and log to the controller of one session.
pub(super) struct Outbox {
    sender: ControllerSender,
    /// Open from the start: while the new system is finished, this process's root is that system's.
    log: io::Result<File>,
    /// How much of the log has been sent.
    handed: Mutex<u64>,
}

impl Outbox {
    pub(super) fn new(sender: ControllerSender) -> Self {
        Self { sender, log: File::open(FILE), handed: Mutex::new(0) }
    }

    /// Reports the start of a step.
    pub(super) fn step(&self, doing: &Doing) {
        self.sender.tell(ToController::Step(doing.clone()));
        self.hand_over_log();
    }

    /// Sends what was added to the log. A log that cannot be read is not a failure.
    pub(super) fn hand_over_log(&self) {
        log::logger().flush();
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.hand_over_from(&mut handed) {
            log::error!("cannot pass on the log {FILE}: {error}");
        }
    }

    fn hand_over_from(&self, offset: &mut u64) -> io::Result<()> {
        let log = self.log.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()))?;
        loop {
            let mut bytes = vec![0; PIECE];
            let length = log.read_at(&mut bytes, *offset)?;
            if length == 0 {
                return Ok(());
            }
            bytes.truncate(length);
            self.sender.tell(ToController::Log { offset: *offset, bytes });
            *offset += length as u64;
        }
    }
}
