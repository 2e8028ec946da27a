//! The options that name a site's own commands.

use crate::golden::hooks::Hooks;

/// A site's commands before and after the reading.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Around the reading")]
pub struct HookArgs {
    /// Run this shell command before this machine is read and before any node is touched; if it fails, so
    /// does the run. If it prints a directory, files are read from there (a snapshot's mount point)
    #[arg(long, value_name = "COMMAND")]
    pub before_read: Option<String>,
    /// Run this shell command once reading has ended, however the run ends
    #[arg(long, value_name = "COMMAND")]
    pub after_read: Option<String>,
}

impl HookArgs {
    /// The commands.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        Hooks { before_read: self.before_read.clone(), after_read: self.after_read.clone() }
    }
}
