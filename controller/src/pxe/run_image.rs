//! The boot image of one run: stage1 with a join secret that only this run accepts, and that ends with it.
//!
//! Anyone on the wire can load what TFTP serves. So the image with the long-lived key is not served next to
//! these: a secret read today is useless tomorrow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::rendezvous::lease::Lease;
use ka_host::atomic;

/// Stage1 without a key, as `kactl image` leaves it.
const STAGE1: &str = "stage1.rdz";
const BEGIN: &str = "run-";
const END: &str = ".rdz";

/// The images of the living runs.
#[derive(Debug)]
pub struct RunImages {
    root: PathBuf,
    /// The script that joins stage1 and a key.
    script: PathBuf,
    /// The inputs of each image.
    made: BTreeMap<String, Made>,
    /// Runs whose image could not be made, as already logged.
    failed: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Made {
    key: String,
    stage1: (u64, Option<std::time::SystemTime>),
}

/// The name of a run's image.
#[must_use]
pub fn file(run: &str) -> String {
    format!("{BEGIN}{run}{END}")
}

impl RunImages {
    /// Images in `root`, made with the scripts in `lib`; `None` if either lacks the inputs.
    #[must_use]
    pub fn new(root: &Path, lib: &Path) -> Option<Self> {
        let script = lib.join("initramfs/add-key");
        let able = script.is_file() && root.join(STAGE1).is_file();
        able.then(|| Self { root: root.to_owned(), script, made: BTreeMap::new(), failed: BTreeSet::new() })
    }

    /// Creates the images that runs lack, and removes the others. A run whose image cannot be made is removed
    /// from `leases`: its machines boot from their disks.
    pub fn follow(&mut self, leases: &mut Vec<(String, Lease)>) {
        leases.retain(|(run, lease)| {
            let Some(key) = &lease.join else { return true };
            match self.make(run, key) {
                Ok(()) => {
                    self.failed.remove(run);
                    true
                }
                Err(error) => {
                    if self.failed.insert(run.clone()) {
                        log::error!(
                            "no machine boots kamethod for {run}: its boot image cannot be made: {error}"
                        );
                    }
                    false
                }
            }
        });
        let alive: BTreeSet<String> = leases.iter().map(|(run, _)| file(run)).collect();
        self.made.retain(|run, _| alive.contains(&file(run)));
        if let Err(error) = self.remove_others(&alive) {
            log::warn!(
                "cannot remove the boot images of finished runs from {}: {error}",
                self.root.display()
            );
        }
    }

    fn make(&mut self, run: &str, key: &str) -> io::Result<()> {
        let stage1 = self.root.join(STAGE1);
        let metadata = fs::metadata(&stage1)?;
        let made = Made { key: key.to_owned(), stage1: (metadata.len(), metadata.modified().ok()) };
        let place = self.root.join(file(run));
        if self.made.get(run) == Some(&made) && place.exists() {
            return Ok(());
        }
        let scratch = tempfile::Builder::new().prefix(".run-image").tempdir_in(&self.root)?;
        let (key_file, new) = (scratch.path().join("key"), scratch.path().join("image"));
        atomic::write(&key_file, key.as_bytes(), 0o600).map_err(io::Error::other)?;
        let output = Command::new(&self.script)
            .args([&stage1, &key_file, &new])
            .stdin(Stdio::null())
            .output()
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.script.display())))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!(
                "{}: {}: {}",
                self.script.display(),
                output.status,
                said.trim()
            )));
        }
        fs::set_permissions(&new, Permissions::from_mode(0o644))?;
        fs::rename(&new, &place)?;
        log::info!("{} has the join secret of {run}, which ends with it", place.display());
        self.made.insert(run.to_owned(), made);
        Ok(())
    }

    fn remove_others(&self, alive: &BTreeSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(BEGIN) && name.ends_with(END) && !alive.contains(name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rendezvous::lease::Allowed;

    fn lease(join: &str) -> Lease {
        Lease { join: Some(join.into()), ..Lease::new("kainstall", Allowed::Any) }
    }

    fn scripts() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    /// What GNU cpio finds in the archive after stage1.
    fn key_in(image: &[u8], stage1: &[u8]) -> String {
        let behind = image.strip_prefix(stage1).unwrap();
        let start = behind.iter().position(|byte| *byte != 0).unwrap();
        assert_eq!((stage1.len() + start) % 4, 0, "where the kernel looks for it");
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("archive");
        fs::write(&archive, &behind[start..]).unwrap();
        let unpack = "(zstd -dc < archive 2>/dev/null || xz -dc < archive 2>/dev/null || gzip -dc < archive \
                      2>/dev/null || cat archive) | cpio -id --quiet && cat etc/ka/join.key";
        let output = Command::new("sh").args(["-c", unpack]).current_dir(dir.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn each_run_has_its_own_key_and_none_after_its_end() {
        let root = tempfile::tempdir().unwrap();
        assert!(RunImages::new(root.path(), scripts()).is_none(), "there is no stage1");
        let stage1 = b"stage1 of odd length".repeat(9);
        fs::write(root.path().join(STAGE1), &stage1).unwrap();
        fs::write(root.path().join("run-dead.rdz"), "of a run that was killed").unwrap();
        let mut images = RunImages::new(root.path(), scripts()).unwrap();
        let mut leases = vec![("a".to_owned(), lease("one\n")), ("b".to_owned(), lease("two\n"))];
        images.follow(&mut leases);
        assert_eq!(leases.len(), 2, "is cpio missing?");
        let read = |name: &str| fs::read(root.path().join(name)).ok();
        for (name, key) in [("run-a.rdz", "one\n"), ("run-b.rdz", "two\n")] {
            let image = read(name).unwrap();
            assert_eq!(key_in(&image, &stage1), key);
            let mode = fs::metadata(root.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644, "TFTP reads what all may read");
        }
        assert_eq!(read("run-dead.rdz"), None);
        images.follow(&mut vec![("a".to_owned(), lease("three\n"))]);
        assert_eq!(key_in(&read("run-a.rdz").unwrap(), &stage1), "three\n");
        assert_eq!(read("run-b.rdz"), None);
        images.follow(&mut Vec::new());
        assert_eq!(read("run-a.rdz"), None);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing but stage1 is left");
    }

    #[test]
    fn a_run_without_an_image_is_not_offered() {
        let (root, lib) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(root.path().join(STAGE1), "stage1").unwrap();
        fs::create_dir(lib.path().join("initramfs")).unwrap();
        let script = lib.path().join("initramfs/add-key");
        fs::write(&script, "#!/bin/sh\necho no space >&2\nexit 1\n").unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        let mut leases = vec![("a".to_owned(), lease("one\n"))];
        RunImages::new(root.path(), lib.path()).unwrap().follow(&mut leases);
        assert_eq!(leases, []);
    }
}
