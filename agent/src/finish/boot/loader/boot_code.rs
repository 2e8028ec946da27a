//! Boot code that an old loader's installer writes to the disk: taken off again, and handed back.
//!
//! Such an installer knows no way to leave sector 0 alone. So everything else is written out before it runs;
//! what it leaves is then the code of a system that is whole, and not even for a moment of a half one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ka::disk::mbr;

use crate::disk::BootCode;
use crate::finish::error::Cause;

/// Runs `install`, and gives what it has written as the boot code of `disk`, which has none afterwards.
pub(super) fn captured(disk: &Path, install: impl FnOnce() -> Result<(), Cause>) -> Result<BootCode, Cause> {
    rustix::fs::sync();
    let ran = install();
    let mut code = [0; mbr::BOOT_CODE];
    let read = File::open(disk).and_then(|device| device.read_exact_at(&mut code, 0));
    // After a failure too: what is there then is unknown.
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

/// Leaves the disk without boot code.
pub(super) fn clear(disk: &Path) -> io::Result<()> {
    let device = File::options().write(true).open(disk)?;
    device.write_all_at(&[0; mbr::BOOT_CODE], 0)?;
    device.sync_all()
}
