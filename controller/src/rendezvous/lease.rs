//! A run's lease of machines: it determines for `kactl pxe` which machines may boot `kamethod`.
//!
//! A lease must end with its run, however that ends, or a machine that happens to reboot would be erased. So
//! it is a file with an exclusive `flock`, which the kernel releases with the process. A rewrite is a new
//! file, locked before it is renamed into place: at every moment the name leads to a complete lease whose
//! lock shows whether its run is alive.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{log_server, values};
use ka::keys::JoinKey;
use ka::mac::Mac;
use ka::shown;
use ka_host::{atomic, guarded};

/// What a run needs from the boot server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The session that its nodes ask for.
    pub session: String,
    /// Its controller's address, if the boot server's own address would not reach it.
    pub server: Option<SocketAddr>,
    /// Its controller's port at the boot server's address, if it differs from the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The join key of this run, in the format of a key file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<String>,
    /// The additional destination of its nodes' logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_log: Option<String>,
    /// The machines that may boot `kamethod`.
    pub allowed: Allowed,
    /// The machines that have been cloned or given up, and boot from their disks again.
    pub done: BTreeSet<Mac>,
}

impl Lease {
    /// A lease whose machines find the session at the boot server's own address and the usual port; none is
    /// finished.
    #[must_use]
    pub fn new(session: &str, allowed: Allowed) -> Self {
        Self {
            session: session.to_owned(),
            server: None,
            port: None,
            join: None,
            store_log: None,
            allowed,
            done: BTreeSet::new(),
        }
    }
}

/// The machines that may boot `kamethod`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allowed {
    /// Any machine, because a person will confirm or has waived confirmation.
    Any,
    /// Only these machines.
    Listed(BTreeSet<Mac>),
}

/// Why a lease cannot be taken, changed or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Another process holds it.
    #[error("a run named {name} is already active ({})", path.display())]
    Held {
        /// The run's name.
        name: String,
        /// Its lease.
        path: PathBuf,
    },
    /// The name cannot be a file name.
    #[error("'{name}' is not a valid name for a run: {reason}")]
    Name {
        /// The name.
        name: String,
        /// The problem.
        reason: String,
    },
    /// The file system failed.
    #[error("cannot {action} the lease {}", path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// The lease.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The directory of the leases cannot be created.
    #[error(transparent)]
    Directory(#[from] atomic::FileError),
}

/// A lease that this process holds until the value is dropped or the process dies.
#[derive(Debug)]
pub struct HeldLease {
    path: PathBuf,
    lease: Lease,
    /// Kept open only for its lock.
    locked: File,
}

impl HeldLease {
    /// Takes the lease of the run `name` in the directory of leases.
    ///
    /// # Errors
    /// [`LeaseError::Held`] if a living process has it.
    pub fn take(directory: &Path, name: &str, lease: Lease) -> Result<Self, LeaseError> {
        for word in [name, &lease.session] {
            values::name(word).map_err(|reason| LeaseError::Name { name: word.to_owned(), reason })?;
        }
        guarded::directory(directory, 0o700)?;
        let path = directory.join(format!("{name}.json"));
        // Two runs of the same name that start at the same time must not both find it free.
        let directory = File::open(directory).map_err(failed("open the directory of", &path))?;
        flock(&directory, FlockOperation::LockExclusive)
            .map_err(|e| failed("lock the directory of", &path)(e.into()))?;
        if matches!(probe(&path)?, Probe::Alive(_)) {
            return Err(LeaseError::Held { name: name.to_owned(), path });
        }
        let locked = put(&path, &lease)?;
        Ok(Self { path, lease, locked })
    }

    /// The current contents of the lease.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Makes a machine boot from its disk from now on.
    ///
    /// # Errors
    /// [`LeaseError::Io`]; the lease is unchanged then.
    pub fn done(&mut self, mac: Mac) -> Result<(), LeaseError> {
        let mut lease = self.lease.clone();
        if lease.done.insert(mac) { self.replace(lease) } else { Ok(()) }
    }

    /// Makes all listed machines boot from their disks from now on, and admits no more. The machines stay in
    /// the lease, so that none of them is "any" for another run.
    ///
    /// # Errors
    /// [`LeaseError::Io`]; the lease is unchanged then.
    pub fn close(&mut self) -> Result<(), LeaseError> {
        let mut lease = self.lease.clone();
        if let Allowed::Listed(macs) = &lease.allowed {
            lease.done.extend(macs);
        }
        if lease == self.lease { Ok(()) } else { self.replace(lease) }
    }

    /// Narrows or widens the set of machines that may boot `kamethod`, for example once the run has its
    /// nodes.
    ///
    /// # Errors
    /// [`LeaseError::Io`]; the lease is unchanged then.
    pub fn allow(&mut self, allowed: Allowed) -> Result<(), LeaseError> {
        self.replace(Lease { allowed, ..self.lease.clone() })
    }

    fn replace(&mut self, lease: Lease) -> Result<(), LeaseError> {
        self.locked = put(&self.path, &lease)?;
        self.lease = lease;
        Ok(())
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        // A file that remains is only untidy: its lock is released now.
        if let Err(e) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the lease {}: {e}", self.path.display());
        }
    }
}

/// The leases of all live runs, by the runs' names.
///
/// # Errors
/// [`LeaseError`] for the directory. A single lease that cannot be read is logged and counts as none, because
/// that only keeps machines from being erased.
pub fn alive(directory: &Path) -> Result<Vec<(String, Lease)>, LeaseError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("list", directory)(e)),
    };
    let mut leases = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("list", directory))?.path();
        let Some(name) = run_name(&path) else { continue };
        match probe(&path) {
            Ok(Probe::Alive(lease)) => leases.push((name, lease)),
            Ok(Probe::Free) => {}
            Err(e) => log::warn!("{:#}; no machine boots kamethod for it", anyhow::Error::from(e)),
        }
    }
    leases.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(leases)
}

fn run_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(".json")?;
    values::name(name).ok()
}

/// The state of a lease's name.
enum Probe {
    /// No file, or the lease of a dead run.
    Free,
    /// The lease of a live run.
    Alive(Lease),
}

/// Examines a lease. The lock is tried in shared mode, so that two readers do not block each other.
fn probe(path: &Path) -> Result<Probe, LeaseError> {
    loop {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Probe::Free),
            Err(e) => return Err(failed("open", path)(e)),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(failed("read", path))?;
                return parse(&text).map(Probe::Alive).map_err(failed("understand", path));
            }
            Err(e) => return Err(failed("lock", path)(e.into())),
            // Free, unless its run has just replaced the file.
            Ok(()) if same_file(&file, path) => return Ok(Probe::Free),
            Ok(()) => {}
        }
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn parse(text: &str) -> io::Result<Lease> {
    let lease: Lease = serde_json::from_str(text)?;
    values::name(&lease.session).map_err(io::Error::other)?;
    lease.join.as_deref().map(JoinKey::from_text).transpose().map_err(io::Error::other)?;
    lease.store_log.as_deref().map(log_server::parse).transpose().map_err(io::Error::other)?;
    Ok(lease)
}

/// Puts a lease in place and returns it locked.
fn put(path: &Path, lease: &Lease) -> Result<File, LeaseError> {
    let write = || {
        let new = atomic::stage(path, shown::json(&serde_json::to_string_pretty(lease)?).as_bytes(), 0o600)?;
        flock(new.as_file(), FlockOperation::NonBlockingLockExclusive)?;
        new.persist(path).map_err(|e| e.error)
    };
    write().map_err(failed("write", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LeaseError {
    let path = path.to_owned();
    move |source| LeaseError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> Lease {
        Lease::new("kainstall", Allowed::Any)
    }

    #[test]
    fn a_lease_lives_as_long_as_it_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        assert_eq!(alive(&runs).unwrap(), []);
        let mut held = HeldLease::take(&runs, "a", any()).unwrap();
        let mac: Mac = "52:54:00:00:00:01".parse().unwrap();
        held.done(mac).unwrap();
        held.allow(Allowed::Listed([mac].into())).unwrap();
        let now = Lease { allowed: Allowed::Listed([mac].into()), done: [mac].into(), ..any() };
        assert_eq!(alive(&runs).unwrap(), [("a".to_owned(), now)]);
        let two: Mac = "52:54:00:00:00:02".parse().unwrap();
        held.allow(Allowed::Listed([mac, two].into())).unwrap();
        held.close().unwrap();
        let closed = Lease { allowed: Allowed::Listed([mac, two].into()), done: [mac, two].into(), ..any() };
        assert_eq!(alive(&runs).unwrap(), [("a".to_owned(), closed)]);
        drop(held);
        assert_eq!(alive(&runs).unwrap(), []);
        assert_eq!(fs::read_dir(&runs).unwrap().count(), 0);
    }

    #[test]
    fn a_name_is_held_once_and_free_again_when_its_run_died() {
        let dir = tempfile::tempdir().unwrap();
        let held = HeldLease::take(dir.path(), "a", any()).unwrap();
        assert!(matches!(HeldLease::take(dir.path(), "a", any()), Err(LeaseError::Held { .. })));
        let other = HeldLease::take(dir.path(), "b", any()).unwrap();
        let names: Vec<_> = alive(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
        drop((held, other));

        // A killed run leaves the file without its lock.
        fs::write(dir.path().join("a.json"), serde_json::to_vec(&any()).unwrap()).unwrap();
        assert_eq!(alive(dir.path()).unwrap(), []);
        HeldLease::take(dir.path(), "a", any()).unwrap();
    }

    #[test]
    fn a_living_runs_lease_is_never_missed_while_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let mut held = HeldLease::take(dir.path(), "a", any()).unwrap();
        std::thread::scope(|scope| {
            let looker = scope.spawn(|| {
                loop {
                    let leases = alive(dir.path()).unwrap();
                    assert_eq!(leases.len(), 1);
                    if leases[0].1.done.len() == 100 {
                        return;
                    }
                }
            });
            for last in 0..100 {
                held.done(format!("52:54:00:00:00:{last:02x}").parse().unwrap()).unwrap();
                assert!(!looker.is_finished() || last == 99);
            }
        });
    }

    #[test]
    fn a_damaged_lease_lets_nobody_boot_kamethod() {
        let dir = tempfile::tempdir().unwrap();
        let sound = serde_json::to_string(&any()).unwrap();
        let logs = sound.replace("\"allowed\"", "\"store_log\":\"http://a/b c\",\"allowed\"");
        for text in ["", "{", &sound.replace("kainstall", "a b"), &sound.replace("session", "sessoin"), &logs]
        {
            let path = dir.path().join("a.json");
            fs::write(&path, text).unwrap();
            let file = File::open(&path).unwrap();
            flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
            assert_eq!(alive(dir.path()).unwrap(), [], "{text}");
        }
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, session) in [("../a", "s"), ("", "s"), ("a", "s init=/bin/sh")] {
            let lease = Lease { session: session.into(), ..any() };
            assert!(matches!(HeldLease::take(dir.path(), name, lease), Err(LeaseError::Name { .. })));
        }
    }

    #[test]
    fn the_file_is_what_the_documentation_says() {
        let mac: Mac = "52:54:00:00:00:01".parse().unwrap();
        let lease = Lease { allowed: Allowed::Listed([mac].into()), done: [mac].into(), ..any() };
        let json: serde_json::Value = serde_json::to_value(&lease).unwrap();
        assert_eq!(
            json.to_string(),
            r#"{"allowed":{"listed":["52:54:00:00:00:01"]},"done":["52:54:00:00:00:01"],"server":null,"session":"kainstall"}"#
        );
        assert_eq!(serde_json::to_value(any()).unwrap()["allowed"], "any");
    }
}
