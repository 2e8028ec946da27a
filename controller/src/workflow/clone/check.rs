//! Checks the requirements of a run other than the golden node, before anything else is done.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use ka::plan::{FinalAction, Secret};

use super::Request;
use crate::config::Directories;
use crate::config::keys::{self, Keys};
use crate::log_server;

/// The results of the checks.
pub(super) struct Checked {
    pub(super) keys: Keys,
    /// The additional destination of the nodes' logs, by address.
    pub(super) store_log: Option<String>,
    pub(super) store_log_password: Option<Secret>,
}

/// Checks the files that the nodes need.
pub(super) fn run(request: &Request<'_>, directories: &Directories) -> anyhow::Result<Checked> {
    let keys = keys::load(&directories.keys)?.for_a_run()?;
    images(directories)?;
    if request.wait_booted.is_some() {
        first_boots(request.golden.after)?;
    }
    let url = request.store_log.as_deref();
    let password = request.store_log_password.as_deref().zip(url);
    Ok(Checked {
        keys,
        store_log: url.map(log_server::by_address).transpose()?,
        store_log_password: password.map(|(file, url)| log_server::password(file, url)).transpose()?,
    })
}

/// The boot files of the nodes must exist before an operator waits.
fn images(directories: &Directories) -> anyhow::Result<()> {
    for path in [directories.boot().join("vmlinuz"), directories.boot().join("all.rdz"), directories.stage2()]
    {
        ensure!(path.exists(), "{} is missing: make it with 'kactl image'", path.display());
    }
    let image = directories.boot().join("all.rdz");
    let key = fs::read(keys::join_file(&directories.keys))?;
    ensure!(
        fs::read(&image)
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
