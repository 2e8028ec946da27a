//! A site's own steps: the programs in `/etc/ka/finish.d` of the copied system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::finish::error::Cause;
use crate::finish::tool;
use ka_host::system::glob;

const DIRECTORY: &str = "etc/ka/finish.d/*";

/// Runs the programs below `root`, which is the process's root, in name order, with `facts` in their
/// environment. The first failure ends it.
pub(in crate::finish) fn run(root: &Path, facts: &[(&str, String)]) -> Result<(), Cause> {
    let facts: Vec<(&str, &str)> = facts.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for path in glob::files(root, DIRECTORY)? {
        let metadata = fs::metadata(&path).map_err(|e| Cause::file("look at", &path, e))?;
        if metadata.permissions().mode() & 0o111 == 0 {
            log::info!("{} is not executable: skipped", path.display());
            continue;
        }
        tool::run_with(&path.to_string_lossy(), &[], &facts)?;
    }
    Ok(())
}
