//! Explains the kernel's error numbers to a person who has to act on them.
//!
//! A static C library has no text for some of them, and "Bad message" is how a file system reports its own
//! damage.

use std::io;

use rustix::io::Errno;

/// The kernel's error, with an explanation where the standard text has none.
#[must_use]
pub fn of(errno: Errno) -> String {
    of_number(errno.raw_os_error())
}

/// The same for an error of the standard library, which may have no number.
#[must_use]
pub fn of_io(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), of_number)
}

/// The message for data that reads back differently from what was written, from `offset` on.
#[must_use]
pub fn not_kept(offset: u64) -> String {
    format!(
        "the disk has lost what was written to it without an error: other bytes are read back from offset {offset} on; \
         it cannot be trusted, replace it"
    )
}

fn of_number(number: i32) -> String {
    let meaning = match Errno::from_raw_os_error(number) {
        // EFSCORRUPTED is an alias of EUCLEAN, and EFSBADCRC of EBADMSG.
        Errno::UCLEAN => "the file system is damaged: check it with its fsck",
        Errno::BADMSG => "the file system is damaged, a checksum is wrong: check it with its fsck",
        Errno::IO => "the disk could not read or write: see the kernel's log",
        Errno::ROFS => {
            "the file system is read-only; it makes itself so when it finds an error: see the kernel's log"
        }
        Errno::SHUTDOWN => "the file system has shut itself down: see the kernel's log",
        Errno::FBIG => {
            "the file is larger than its file system or the limit of this process allows (ulimit -f)"
        }
        Errno::REMOTEIO => "the disk has failed: see the kernel's log",
        Errno::NOMEDIUM => "there is no medium in the drive",
        Errno::NODATA => "the medium has an unreadable area: see the kernel's log",
        // What a blocking socket with a time limit reports: "Resource temporarily unavailable" is no help.
        Errno::AGAIN | Errno::TIMEDOUT => "no answer came in time: is it running, and no firewall between?",
        Errno::STALE => "the file server no longer knows the file",
        _ => return io::Error::from_raw_os_error(number).to_string(),
    };
    format!("{meaning} (os error {number})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_mean_damage_say_so() {
        for (number, said) in [
            (117, "the file system is damaged: check it with its fsck (os error 117)"),
            (74, "the file system is damaged, a checksum is wrong: check it with its fsck (os error 74)"),
            (11, "no answer came in time: is it running, and no firewall between? (os error 11)"),
            (2, "No such file or directory (os error 2)"),
        ] {
            assert_eq!(of_number(number), said);
        }
        assert!(of_io(&io::Error::from_raw_os_error(27)).contains("ulimit -f"));
        assert_eq!(of_io(&io::Error::other("x")), "x");
    }
}
