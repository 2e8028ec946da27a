//! What the node hands to the controller beside its data: the steps that it does, and its log.
//!
//! The log goes piece by piece, with each step: of a node that dies, the controller has all but the last
//! words.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use ka::step::Doing;
use ka::wire::control::ToController;

use crate::init::log::FILE;
use crate::session::ControllerSender;

/// How much of the log goes into one message.
const PIECE: usize = 256 * 1024;

/// Hands a node's steps and log to the controller of one session.
pub(super) struct Outbox {
    sender: ControllerSender,
    /// Open from the start: while the new system is finished, this process's root is that system's.
    log: io::Result<File>,
    /// So much of the log is handed over.
    handed: Mutex<u64>,
}

impl Outbox {
    pub(super) fn new(sender: ControllerSender) -> Self {
        Self { sender, log: File::open(FILE), handed: Mutex::new(0) }
    }

    /// A step begins.
    pub(super) fn step(&self, doing: &Doing) {
        self.sender.tell(ToController::Step(doing.clone()));
        self.hand_over_log();
    }

    /// Hands over what the log has more than before. A log that cannot be read is no reason to fail.
    pub(super) fn hand_over_log(&self) {
        log::logger().flush();
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.hand_over_from(&mut handed) {
            log::error!("the log {FILE} cannot be handed over: {error}");
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
