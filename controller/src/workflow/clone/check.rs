//! Checks the requirements of a run, before anything else is done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use ka::plan::{FinalAction, Secret};

use super::Request;
use crate::config::keys::{self, Keys};
use crate::config::{Config, Directories};
use crate::golden::plan::{self, Planned};
use crate::log_server;
use crate::workflow::faults::Faults;
use crate::workflow::reach;

/// The results of the checks.
pub(super) struct Checked {
    pub(super) keys: Keys,
    /// The additional destination of the nodes' logs, by address.
    pub(super) store_log: Option<String>,
    pub(super) store_log_password: Option<Secret>,
}

/// Checks everything that can be known before an operator or a node waits, and plans the nodes.
///
/// # Errors
/// All faults at once, in the order in which they are best corrected.
pub(super) fn run(request: &Request<'_>, config: &Config) -> anyhow::Result<(Checked, Planned)> {
    let mut faults = Faults::default();
    if !rustix::process::geteuid().is_root() {
        faults.lack_root("kactl run");
    }
    // Only root may read them.
    let keys = if faults.is_unprivileged() {
        None
    } else {
        faults.take(keys::load(&config.directories.keys).map_err(Into::into))
    };
    images(&config.directories, keys.is_some(), &mut faults);
    let planned = golden(request, &config.directories, &mut faults);
    faults.take(reach::check(&super::hub_setup(request, config)));
    if request.wait_booted.is_some() {
        faults.take(first_boots(request.golden.after));
    }
    let url = request.store_log.as_deref();
    let password = request.store_log_password.as_deref().zip(url);
    let store_log = faults.take(url.map(log_server::by_address).transpose());
    let password = password.map(|(file, url)| log_server::password(file, url)).transpose();
    let password = faults.take(password);
    faults.end()?;
    let (Some(keys), Some(planned), Some(store_log), Some(store_log_password)) =
        (keys, planned, store_log, password)
    else {
        bail!("this machine could not be checked")
    };
    Ok((Checked { keys: keys.for_a_run()?, store_log, store_log_password }, planned))
}

/// Examines this machine. Only root can; the descriptions' files are checked in any case, and all of them.
fn golden(request: &Request<'_>, directories: &Directories, faults: &mut Faults) -> Option<Planned> {
    let descs = request.golden.disks.iter().filter_map(|disk| disk.desc.as_ref());
    let read: Vec<_> = descs.map(|desc| faults.take(plan::read(desc).map_err(Into::into))).collect();
    if faults.is_unprivileged() || read.iter().any(Option::is_none) {
        return None;
    }
    // Tools of a tree that is not there are not missing one by one.
    let stage2 = request.golden.stage2.clone().filter(|_| directories.stage2().exists());
    faults.take(plan::make(&plan::Request { stage2, ..request.golden.clone() }).map_err(Into::into))
}

/// The boot files of the nodes must exist before an operator waits.
fn images(directories: &Directories, keys: bool, faults: &mut Faults) {
    let image = directories.boot().join("all.rdz");
    let parts = [directories.boot().join("vmlinuz"), image.clone(), directories.stage2()];
    // Without root's rights, nothing can be said about a directory that only root may enter.
    let missing = |path: &PathBuf| match path.symlink_metadata() {
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::NotFound || !faults.is_unprivileged(),
    };
    let missing: Vec<String> =
        parts.iter().filter(|path| missing(path)).map(|path| path.display().to_string()).collect();
    if let [first, rest @ ..] = missing.as_slice() {
        let (paths, are) = match rest {
            [] => (first.clone(), "is"),
            _ => (missing.join(", "), "are"),
        };
        faults.add(format_args!("{paths} {are} missing: make them with 'kactl image'"));
    } else if keys {
        faults.take(has_our_key(&image, directories));
    }
}

fn has_our_key(image: &Path, directories: &Directories) -> anyhow::Result<()> {
    let key = fs::read(keys::join_file(&directories.keys))?;
    ensure!(
        fs::read(image)
            .with_context(|| format!("cannot read {}", image.display()))?
            .windows(key.len())
            .any(|part| part == key),
        "{} has a different join key than {}: replace it with 'kactl image --key-only'",
        image.display(),
        directories.keys.display()
    );
    Ok(())
}

/// Nodes whose first boot is awaited must be able to report it.
fn first_boots(after: FinalAction) -> anyhow::Result<()> {
    ensure!(
        !matches!(after, FinalAction::Poweroff | FinalAction::Shell),
        "--wait-booted: with --boot poweroff and --boot shell no node boots from its disk by itself"
    );
    ensure!(
        ka_host::system::runs_units(Path::new("/")),
        "--wait-booted: this system has no systemd, whose unit would report the first boot"
    );
    Ok(())
}
