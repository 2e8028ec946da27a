//! Boot code that an old boot loader's installer writes to the disk: it is removed again and returned.
//!
//! Such an installer cannot be told to leave sector 0 alone. So everything else is written out before it
//! runs. The boot code it writes then starts a complete system, and never, not even for a moment, an
//! incomplete one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ka::disk::mbr;

use crate::disk::BootCode;
use crate::finish::error::Cause;

/// Runs `install` and returns the boot code that it wrote to `disk`, which has none afterwards.
pub(super) fn captured(disk: &Path, install: impl FnOnce() -> Result<(), Cause>) -> Result<BootCode, Cause> {
    rustix::fs::sync();
    let ran = install();
    let mut code = [0; mbr::BOOT_CODE];
    let read = File::open(disk).and_then(|device| device.read_exact_at(&mut code, 0));
    // Also after a failure: what the installer wrote is unknown.
    let cleared = clear(disk).map_err(|e| Cause::file("clear the boot code of", disk, e));
    ran?;
    read.map_err(|e| Cause::file("read back", disk, e))?;
    cleared?;
    if code.iter().all(|byte| *byte == 0) {
        let wrong = "has no boot code after its boot loader was installed".to_owned();
        return Err(Cause::NotBootable { path: disk.to_owned(), wrong });
    }
    Ok(BootCode(code))
}

/// Clears the boot code of the disk.
pub(super) fn clear(disk: &Path) -> io::Result<()> {
    let device = File::options().write(true).open(disk)?;
    device.write_all_at(&[0; mbr::BOOT_CODE], 0)?;
    device.sync_all()
}
