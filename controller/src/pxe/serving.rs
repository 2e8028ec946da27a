//! What `kactl pxe` serves now: `kactl run` awaits its nodes where they boot, and takes none that did not.
//!
//! A file with a lock on it, as a run's lease is: the kernel drops it with the process, however that ends.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use ka_host::atomic;

/// What is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// On which interface.
    pub interface: String,
    /// Each run's machines boot an image with a join secret of that run.
    pub run_keys: bool,
    /// Who has which address, if all machines have theirs from here.
    pub leases: Option<PathBuf>,
}

/// Tells it for as long as this lives.
#[derive(Debug)]
pub struct Serving {
    _locked: File,
}

/// It cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct ServingError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Serving {
    /// Tells it in the run directory.
    ///
    /// # Errors
    /// [`ServingError`].
    pub fn tell(served: &Served, run: &Path) -> Result<Self, ServingError> {
        let path = path(run);
        let write = || {
            let new = atomic::stage(&path, &serde_json::to_vec(served)?, 0o600)?;
            flock(new.as_file(), FlockOperation::NonBlockingLockExclusive)?;
            new.persist(&path).map_err(|e| e.error)
        };
        write().map(|locked| Self { _locked: locked }).map_err(|source| ServingError { path, source })
    }
}

/// What a living `kactl pxe` serves.
#[must_use]
pub fn now(run: &Path) -> Option<Served> {
    let path = path(run);
    let mut file = File::open(&path).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared) != Err(Errno::WOULDBLOCK) {
        return None;
    }
    let mut text = String::new();
    let read = file.read_to_string(&mut text).and_then(|_| Ok(serde_json::from_str(&text)?));
    read.inspect_err(|e| log::warn!("{}: {e}: what kactl pxe serves is not known", path.display())).ok()
}

fn path(run: &Path) -> PathBuf {
    run.join("pxe.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_for_as_long_as_somebody_serves() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(now(run.path()), None);
        let served = |interface: &str| Served {
            interface: interface.into(),
            run_keys: true,
            leases: Some("/run/ka/dnsmasq/leases".into()),
        };
        let serving = Serving::tell(&served("eth1"), run.path()).unwrap();
        assert_eq!(now(run.path()), Some(served("eth1")));
        drop(serving);
        assert_eq!(now(run.path()), None, "what a killed process leaves");
        let _serving = Serving::tell(&served("eth2"), run.path()).unwrap();
        assert_eq!(now(run.path()), Some(served("eth2")));
    }
}
