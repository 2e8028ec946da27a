//! Keeps keys in memory out of core dumps, and reads key files only if no other user can read them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, geteuid, getrlimit, set_dumpable_behavior, setrlimit,
};

/// The maximum size of a secret file, in bytes.
const MAX_LENGTH: u64 = 64 << 10;

/// Why a secret file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// Other users can read it.
    #[error(
        "others can read it (mode {mode:04o}): run `chmod 600` if you are sure that no one has read it, else create a new one"
    )]
    Exposed {
        /// Its permissions.
        mode: u32,
    },
    /// It belongs to another user, who can read and change it.
    #[error(
        "it belongs to the user {uid}, who can read and change it: copy it, and keep the copy to yourself"
    )]
    Foreign {
        /// Its owner.
        uid: u32,
    },
}

/// Reads a file that holds a secret.
///
/// # Errors
/// [`SecretError`]: among others, the file is owned or readable by another user.
pub fn read(path: &Path) -> Result<String, SecretError> {
    let file = File::open(path)?;
    // Checked on the open file: the name may lead elsewhere by now.
    let is = file.metadata()?;
    if is.uid() != geteuid().as_raw() && is.uid() != 0 {
        return Err(SecretError::Foreign { uid: is.uid() });
    }
    let mode = is.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { mode });
    }
    let mut text = String::new();
    file.take(MAX_LENGTH).read_to_string(&mut text)?;
    Ok(text)
}

/// Disables core dumps of this process, whose memory holds keys and file contents. A core handler gets dumps
/// whatever the limit says (core(5)), so root's processes are also marked as not dumpable. Other users' are
/// not, because they need their own files in /proc.
pub fn keep_from_core_dumps() {
    let limit = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
    if let Err(error) = setrlimit(Resource::Core, limit) {
        log::warn!("a core dump of this process would hold its keys: {error}");
    }
    if geteuid().is_root()
        && let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable)
    {
        log::warn!("a core dump of this process would hold its keys: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn a_secret_that_others_can_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "s3cret\n").unwrap();
        for (mode, taken) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match read(&path) {
                Ok(text) => assert!(taken && text == "s3cret\n", "{mode:o}"),
                Err(SecretError::Exposed { mode: seen }) => assert!(!taken && seen == mode, "{mode:o}"),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(matches!(read(&folder.path().join("none")), Err(SecretError::Read(_))));
        if !geteuid().is_root() {
            eprintln!("NOT TESTED without root: a secret that belongs to another user");
            return;
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(65534), None).unwrap();
        assert!(matches!(read(&path), Err(SecretError::Foreign { uid: 65534 })));
    }
}
