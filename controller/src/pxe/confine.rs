//! Runs dnsmasq with only the rights that it needs: its own user, three capabilities, and no way to gain
//! more.
//!
//! setpriv(1) does this. The boot files stay in a directory that only root and that user may enter.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Command;

use nix::unistd::User;
use rustix::fs::{XattrFlags, setxattr};

use ka_host::atomic::FileError;

/// The user that the dnsmasq packages of Debian and others create.
const USER: &str = "dnsmasq";

/// Ports below 1024, ARP entries of machines without an address, and raw packets on one interface.
const CAPABILITIES: &str = "-all,+net_bind_service,+net_admin,+net_raw";

/// A user that dnsmasq runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confined {
    uid: u32,
    gid: u32,
}

/// What the user may do in a directory.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// Open files in it by name.
    Enter,
    /// List it, too.
    Read,
}

impl Confined {
    /// The user, if this system has it.
    #[must_use]
    pub fn find() -> Option<Self> {
        let user = match User::from_name(USER) {
            Ok(user) => user?,
            Err(error) => {
                log::warn!("cannot look up the user {USER}: {error}");
                return None;
            }
        };
        // Running as root would confine nothing.
        (!user.uid.is_root()).then(|| Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// Its number.
    #[must_use]
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// The command that runs `program` as this user, and ends it with this process. PR_SET_PDEATHSIG does not
    /// survive a change of user, so it is set after that.
    #[must_use]
    pub fn command(self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        let option = |name: &str, value: &str| OsString::from(format!("--{name}={value}"));
        command
            .arg(option("reuid", &self.uid.to_string()))
            .arg(option("regid", &self.gid.to_string()))
            .arg("--clear-groups")
            .arg(option("inh-caps", CAPABILITIES))
            .arg(option("ambient-caps", CAPABILITIES))
            .arg(option("bounding-set", CAPABILITIES))
            .arg("--no-new-privs")
            .args(["--pdeathsig", "KILL", "--", program]);
        command
    }

    /// Lets the user into a directory that is otherwise accessible only to root.
    ///
    /// # Errors
    /// [`FileError`]: the file system has no ACLs, or is read-only.
    pub fn let_in(self, directory: &Path, access: Access) -> Result<(), FileError> {
        setxattr(directory, c"system.posix_acl_access", &self.acl(access), XattrFlags::empty())
            .map_err(io::Error::from)
            .map_err(FileError::new("let the user dnsmasq into", directory))
    }

    /// Creates a directory that belongs to the user.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn own(self, directory: &Path) -> Result<(), FileError> {
        std::os::unix::fs::chown(directory, Some(self.uid), Some(self.gid))
            .map_err(FileError::new("change the owner of", directory))
    }

    /// acl(5) in the kernel's format: version 2, then tag, permissions and id of each entry.
    fn acl(self, access: Access) -> Vec<u8> {
        const NOBODY: u32 = u32::MAX;
        let theirs = match access {
            Access::Enter => 1,
            Access::Read => 5,
        };
        // The owner, this user, the owning group, the mask, and others.
        let entries: [(u16, u16, u32); 5] = [
            (0x01, 7, NOBODY),
            (0x02, theirs, self.uid),
            (0x04, 0, NOBODY),
            (0x10, theirs, NOBODY),
            (0x20, 0, NOBODY),
        ];
        let entry = |(tag, permissions, id): (u16, u16, u32)| {
            [tag.to_le_bytes().as_slice(), &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        2_u32.to_le_bytes().into_iter().chain(entries.into_iter().flat_map(entry)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn getfacl_reads_what_is_granted() {
        let dir = tempfile::tempdir().unwrap();
        let user = Confined { uid: 4242, gid: 4242 };
        for (access, line) in [(Access::Enter, "user:4242:--x"), (Access::Read, "user:4242:r-x")] {
            user.let_in(dir.path(), access).unwrap();
            let facl = Command::new("getfacl")
                .args(["-n", "--omit-header", "--absolute-names"])
                .arg(dir.path())
                .output();
            let text = String::from_utf8(facl.unwrap().stdout).unwrap();
            for line in ["user::rwx", line, "group::---", "other::---"] {
                assert!(text.lines().any(|l| l == line), "{line} is missing in {text}");
            }
        }
    }
}
