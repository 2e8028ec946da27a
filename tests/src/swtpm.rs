//! An emulated TPM 2.0 (swtpm), which answers raw commands on a socket as the kernel's device does.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a helper of tests fails as a test does")]

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use ka_host::tpm::Tpm;
use tempfile::TempDir;

use crate::process::{Process, wait_until};

/// A TPM, with its own endorsement seed.
pub struct Swtpm {
    folder: TempDir,
    _process: Process,
}

impl Swtpm {
    /// Starts one that answers commands.
    #[must_use]
    pub fn new() -> Self {
        Self::start(&["--flags", "not-need-init,startup-clear"], |at| {
            vec!["--server".into(), format!("type=unixio,path={}", at("tpm"))]
        })
    }

    /// Starts one for QEMU, at [`Swtpm::control`].
    #[must_use]
    pub fn for_qemu() -> Self {
        Self::start(&[], |_| Vec::new())
    }

    fn start(flags: &[&str], server: impl Fn(&dyn Fn(&str) -> String) -> Vec<String>) -> Self {
        // Not on the disk of a golden machine, which is being copied.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2"]).args(flags).args(server(&at));
        command.args(["--tpmstate", &format!("dir={}", at(""))]);
        command.args(["--ctrl", &format!("type=unixio,path={}", at("tpm.ctrl"))]);
        let mut process = Process::start(&mut command, "swtpm", folder.path());
        let path = folder.path().join("tpm.ctrl");
        wait_until("swtpm listens", || {
            assert!(!process.has_ended(), "swtpm has ended: {}", process.said());
            path.exists()
        });
        Self { folder, _process: process }
    }

    /// The socket with which QEMU controls it.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.folder.path().join("tpm.ctrl")
    }

    /// The socket for commands.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("tpm")
    }

    /// Opens it as an agent opens the kernel's device. It serves one opener at a time.
    #[must_use]
    pub fn open(&self) -> Tpm<UnixStream> {
        let mut stream = None;
        wait_until("swtpm accepts", || {
            stream = UnixStream::connect(self.path()).ok();
            stream.is_some()
        });
        Tpm::new(stream.unwrap()).unwrap()
    }
}

impl Default for Swtpm {
    fn default() -> Self {
        Self::new()
    }
}
