//! Debian's kernels, unpacked from their packages: inputs for the image on a machine that runs another
//! kernel.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::{root, succeed};

/// A kernel as packaged.
pub struct Kernel {
    /// The kernel itself.
    pub image: PathBuf,
    /// Its `/lib/modules/VERSION`.
    pub modules: PathBuf,
}

/// Unpacks the kernel that a package like `linux-image-cloud-amd64` depends on below `target/`, unless it
/// exists.
///
/// # Panics
/// If the package is not available or not as expected.
#[must_use]
pub fn debian(meta_package: &str) -> Kernel {
    let folder = root().join("target/kernels").join(meta_package);
    let unpacked = folder.join("unpacked");
    fs::create_dir_all(&folder).expect("target/ can be written");
    // Several tests need it at the same time, and only one may create it.
    let lock = fs::File::create(folder.join("lock")).expect("target/ can be written");
    lock.lock().expect("target/ can be locked");
    if !unpacked.exists() {
        let package = real_package(meta_package);
        succeed(Command::new("apt-get").args(["download", "-q", &package]).current_dir(&folder));
        let archive = entry(&folder, &format!("{package}_"));
        let partial = folder.join("partial");
        succeed(Command::new("dpkg").arg("-x").arg(&archive).arg(&partial));
        fs::rename(&partial, &unpacked).expect("target/ can be written");
        fs::remove_file(&archive).expect("target/ can be written");
    }
    Kernel {
        image: entry(&unpacked.join("boot"), "vmlinuz-"),
        modules: entry(&unpacked.join("lib/modules"), ""),
    }
}

fn real_package(meta_package: &str) -> String {
    let query = || {
        let output =
            Command::new("apt-cache").args(["depends", meta_package]).output().expect("apt-cache runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned)
    };
    query().unwrap_or_else(|| {
        succeed(Command::new("apt-get").args(["update", "-q"]));
        query().unwrap_or_else(|| panic!("Debian's package {meta_package} cannot be found"))
    })
}

/// The only entry of a directory with this prefix.
fn entry(directory: &std::path::Path, prefix: &str) -> PathBuf {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths = entries.map(|e| e.expect("a directory can be read").path());
    let found = paths.find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)));
    found.unwrap_or_else(|| panic!("no {prefix}… in {}", directory.display()))
}
