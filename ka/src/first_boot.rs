//! The agreement between a clone and the controller about the clone's first boot from its own disk.
//!
//! The finish installs a unit, the agent and a message in [`DIRECTORY`]. At the first boot the agent posts
//! the message's token to [`PATH`] on the controller, and removes all three.

/// The directory of the program and its message until then.
pub const DIRECTORY: &str = "/var/lib/ka-first-boot";
/// The file with the controller's `HOST:PORT` and the token, one per line.
pub const MESSAGE: &str = "message";
/// The unit's name.
pub const UNIT: &str = "ka-first-boot.service";
/// The path to which the token is posted.
pub const PATH: &str = "/booted";
