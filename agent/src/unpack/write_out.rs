//! How a file is written out before the whole file system is.

use std::os::fd::OwnedFd;

use ka_host::sys::sync_range;
use rustix::io::Errno;

/// How a file is written out by itself, before all is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOut {
    /// Not at all.
    Not,
    /// Its data, because nobody says later what has become of it.
    Data,
    /// All of it.
    All,
}

impl WriteOut {
    /// Does it.
    ///
    /// # Errors
    /// The data could not be written.
    pub(super) fn perform(self, fd: &OwnedFd) -> Result<(), Errno> {
        match self {
            Self::Not => Ok(()),
            Self::Data => match sync_range::write_out(fd).map_err(|e| Errno::from_raw_os_error(e as i32)) {
                // Not every file system has this.
                Err(Errno::SPIPE | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rustix::fs::fsync(fd),
                outcome => outcome,
            },
            Self::All => rustix::fs::fsync(fd),
        }
    }
}
