//! What the node hands to the controller beside its data: the steps that it does, and its log.

use std::fs::File;
use std::io::Read;

use ka::wire::control::ToController;

use crate::init::log::FILE;
use crate::session::Session;

/// How much of the log goes into one message.
const PIECE: usize = 256 * 1024;

/// Hands over the log as it is now. A log that cannot be read is no reason to fail.
pub(super) fn hand_over_log(session: &Session) {
    log::logger().flush();
    let mut offset = 0;
    let outcome = File::open(FILE).and_then(|mut log| {
        loop {
            let mut bytes = vec![0; PIECE];
            let length = log.read(&mut bytes)?;
            if length == 0 {
                return Ok(());
            }
            bytes.truncate(length);
            session.tell(ToController::Log { offset, bytes });
            offset += length as u64;
        }
    });
    if let Err(error) = outcome {
        log::error!("the log {FILE} cannot be handed over: {error}");
    }
}
