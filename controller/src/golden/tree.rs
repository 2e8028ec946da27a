//! Reads the golden node's files from another tree: a snapshot that a site's own command has mounted.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka_host::mountinfo::{self, DeviceNumber};

use super::chosen::Chosen;
use super::scan::Files;

/// Why a tree cannot be read instead of the golden node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// It cannot be examined.
    #[error("{}: {error}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// It does not contain an installed system.
    #[error("{}: expected the tree of a whole system, found no {missing} in it", tree.display())]
    NoSystem {
        /// The tree.
        tree: PathBuf,
        /// The missing part that every system has.
        missing: &'static str,
    },
}

/// The parts that every installed system has.
const ALWAYS: [&str; 2] = ["etc", "usr"];

/// Returns the same file systems, read below `tree` where it has them: the top of the tree is the root, and
/// another file system is the one mounted at the same place in the tree. A file system that is not mounted
/// there, such as an EFI system partition, is read at its usual place: an empty directory of a snapshot is
/// not a file system.
///
/// # Errors
/// [`TreeError`].
pub fn within(tree: &Path, chosen: &[Chosen]) -> Result<Vec<Chosen>, TreeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TreeError::Io { path, error: source }
    };
    let tree = tree.canonicalize().map_err(failed(tree))?;
    if let Some(missing) = ALWAYS.into_iter().find(|name| !tree.join(name).is_dir()) {
        return Err(TreeError::NoSystem { tree, missing });
    }
    let mounts = mountinfo::read().map_err(failed(Path::new("/proc/self/mountinfo")))?;
    chosen
        .iter()
        .map(|chosen| {
            let point = chosen.mount_point.strip_prefix("/").unwrap_or(&chosen.mount_point);
            let there = tree.join(point);
            let is_root = point.as_os_str().is_empty();
            if !is_root && !mounts.iter().any(|mount| mount.mount_point == there) {
                log::info!(
                    "{}: not mounted in {}, read where it is",
                    chosen.mount_point.display(),
                    tree.display()
                );
                return Ok(chosen.clone());
            }
            // `join` with an empty path adds a trailing slash, which is not part of the name.
            let there = if is_root { tree.clone() } else { there };
            let device = there.metadata().map_err(failed(&there))?.dev();
            log::info!("{}: read in {}", chosen.mount_point.display(), there.display());
            let files = Files { mounted_at: there, below: PathBuf::new(), device: DeviceNumber::of(device) };
            Ok(Chosen { mount_point: chosen.mount_point.clone(), files })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_stands_for_the_root_and_what_is_mounted_in_it() {
        let tree = tempfile::tempdir().unwrap();
        let chosen: Vec<Chosen> = ["/", "/boot", "/boot/efi"]
            .iter()
            .map(|point| Chosen {
                mount_point: point.into(),
                files: Files {
                    mounted_at: point.into(),
                    below: PathBuf::new(),
                    device: DeviceNumber { major: 8, minor: 1 },
                },
            })
            .collect();
        let error = within(tree.path(), &chosen).unwrap_err().to_string();
        assert!(error.contains("found no etc in it"), "{error}");
        for name in ["etc", "usr", "boot/efi"] {
            std::fs::create_dir_all(tree.path().join(name)).unwrap();
        }
        let found = within(tree.path(), &chosen).unwrap();
        assert_eq!(found[0].files.mounted_at, tree.path().canonicalize().unwrap());
        assert_ne!(found[0].files.device, chosen[0].files.device);
        // Nothing is mounted there: a snapshot of the root file system has empty directories.
        assert_eq!(found[1..], chosen[1..]);
        assert!(within(Path::new("/nonexistent"), &chosen).unwrap_err().to_string().contains("/nonexistent"));
    }
}
