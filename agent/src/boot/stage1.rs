//! The sequence of stage1, up to a network with a controller.

use std::path::Path;
use std::{fs, io};

use super::modules::{ModuleError, Modules, QUIET};
use super::network::{self, Network};
use super::reach::{ReachError, reach};
use crate::init::log::level_of;
use crate::step::step;
use ka::cmdline::{self, CommandLine, CommandLineError};
use ka::step::Step;

/// Drivers for USB keyboards: a person plugs one in when something has failed, and then no one scans for
/// devices any more.
const KEYBOARDS: [&str; 2] = ["usbhid", "hid_generic"];

/// Needed to receive answers to an address that the card does not have yet.
const PACKET: &str = "af_packet";
/// Needed for VLAN tags.
const VLAN: &str = "8021q";

/// Bytes that may wait for a disk before the kernel begins to write them.
const WRITE_OUT: (&str, &str) = ("/proc/sys/vm/dirty_background_bytes", "67108864");

/// A node with a network.
#[derive(Debug)]
pub struct Stage1 {
    /// The request on the command line.
    pub command_line: CommandLine,
    /// The card in use.
    pub network: Network,
}

/// The step at which stage1 failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// `/proc/cmdline` cannot be read.
    #[error("/proc/cmdline: {0}")]
    NoCommandLine(io::Error),
    /// The command line is invalid.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    /// The modules cannot be read.
    #[error(transparent)]
    Modules(#[from] ModuleError),
    /// There is no network, or no controller.
    #[error(transparent)]
    Reach(#[from] ReachError),
}

/// Reads the command line, loads drivers, and brings up the network in which `connect` reaches a controller.
/// `/proc` and `/sys` must be mounted; modules are read below `root`.
///
/// # Errors
/// [`BootError`], already logged with its step.
pub fn stage1<T>(
    root: &Path,
    mut connect: impl FnMut(&CommandLine, &Network) -> Result<T, String>,
) -> Result<(Stage1, T), BootError> {
    let text = std::fs::read_to_string("/proc/cmdline").map_err(BootError::NoCommandLine)?;
    let command_line = step(Step::CommandLine, || {
        let line = cmdline::parse(&text)?;
        line.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        Ok::<_, BootError>(line)
    })?;
    let mut modules = step(Step::Drivers, || {
        let mut modules = Modules::open(root, &text)?;
        modules.load_for_devices(QUIET);
        for keyboard in KEYBOARDS {
            // Built in, or not in this image: an already working keyboard still works.
            if let Err(error) = modules.load(keyboard) {
                log::debug!("{error}");
            }
        }
        Ok::<_, BootError>(modules)
    })?;
    log::set_max_level(level_of(command_line.debug));
    for (wanted, module) in [(true, PACKET), (command_line.vlan.is_some(), VLAN)] {
        // Usually built in; if not, the module that needs it reports it.
        if wanted && let Err(error) = modules.load(module) {
            log::debug!("{error}");
        }
    }
    network::without_timestamps();
    write_out_early();
    let look_again = || drop(modules.load_for_devices(QUIET));
    let (network, reached) = reach(&command_line, look_again, |network| connect(&command_line, network))?;
    Ok((Stage1 { command_line, network }, reached))
}

/// Lets the kernel write to disks as data comes, and not when a tenth of the memory waits for them: the last
/// sync is as long as what waits then.
fn write_out_early() {
    let (setting, bytes) = WRITE_OUT;
    if let Err(error) = fs::write(setting, bytes) {
        log::warn!("{setting}: {error}: the last sync will take longer");
    }
}
