//! The story of stage1, up to a network. Finding the controller follows, with [`super::find`].

use std::io;
use std::path::Path;

use super::cmdline::{self, CommandLine, CommandLineError};
use super::modules::{ModuleError, Modules, QUIET};
use super::network::{self, Network, NetworkError};
use crate::step::step;

/// The drivers of any USB keyboard: a person brings one when something has failed, and nobody looks for devices then.
const KEYBOARDS: [&str; 2] = ["usbhid", "hid_generic"];

/// A node that can be talked to.
#[derive(Debug)]
pub struct Stage1 {
    /// What was asked for.
    pub command_line: CommandLine,
    /// The card in use.
    pub network: Network,
}

/// Where stage1 got stuck.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// `/proc/cmdline` can't be read.
    #[error("/proc/cmdline: {0}")]
    NoCommandLine(#[source] io::Error),
    /// The command line makes no sense.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    /// The modules can't be read.
    #[error(transparent)]
    Modules(#[from] ModuleError),
    /// There is no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Reads the command line, loads drivers, and brings up the network. `/proc` and `/sys` must be mounted; modules
/// are looked for below `root`.
///
/// # Errors
/// [`BootError`], already logged with its step.
pub fn stage1(root: &Path) -> Result<Stage1, BootError> {
    let text = std::fs::read_to_string("/proc/cmdline").map_err(BootError::NoCommandLine)?;
    let command_line = step("kernel command line", || {
        let line = cmdline::parse(&text)?;
        line.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        Ok::<_, BootError>(line)
    })?;
    let mut modules = step("drivers", || {
        let mut modules = Modules::open(root, &text)?;
        modules.load_for_devices(QUIET);
        for keyboard in KEYBOARDS {
            // Built in, or not in this image: then a keyboard that is there already still works.
            if let Err(error) = modules.load(keyboard) {
                log::debug!("{error}");
            }
        }
        Ok::<_, BootError>(modules)
    })?;
    let network = step("network", || {
        network::without_timestamps();
        network::bring_up(&command_line, || drop(modules.load_for_devices(QUIET))).map_err(BootError::from)
    })?;
    Ok(Stage1 { command_line, network })
}
