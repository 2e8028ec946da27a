//! What a clone and the controller agree on for the clone's first boot from its own disk.
//!
//! The finish leaves a unit, the agent and a message in [`DIRECTORY`]. At the first boot the agent posts the message's
//! token to [`PATH`] of the controller, and removes all three.

/// Where the program and what it has to send are kept until then.
pub const DIRECTORY: &str = "/var/lib/ka-first-boot";
/// The file with the controller's `HOST:PORT` and the token, one per line.
pub const MESSAGE: &str = "message";
/// The unit's name.
pub const UNIT: &str = "ka-first-boot.service";
/// The path to which the token is posted.
pub const PATH: &str = "/booted";
