//! GRUB 2 for PC BIOS, installed by the copied system's own tools and verified.
//!
//! GRUB's boot code starts whatever follows it, regardless of the active flag. So sector 0 must not contain
//! it, not even for a moment, before the whole system is on the disk. `grub-install` would write it; with
//! `--no-bootsector` it creates all files and leaves the disk alone. `grub-bios-setup`, which then embeds the
//! core in the gap before the first partition, writes sector 0 too, but from a file of our choice: it is
//! given one without code. The values that it fills in are copied into GRUB's own boot code, which is
//! returned for the very last write.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ka::disk::mbr;

use super::{Setting, boot_code, grub};
use crate::disk::BootCode;
use crate::finish::error::Cause;
use crate::finish::tool;
use ka::arch::THIS;
use ka_host::system::bios_setup;

/// A boot image without code, used in place of GRUB's `boot.img`.
const INERT: &str = "ka-inert.img";

/// The values that `grub-bios-setup` fills into a boot image: the core's first sector (8 bytes) followed by
/// the boot drive, and two bytes of code that check the drive's number. GRUB's header
/// `include/grub/i386/pc/boot.h` fixes these offsets: boot images and setup must agree on them.
const FILLED_IN: [Range<usize>; 2] = [0x5c..0x65, 0x66..0x68];
const CORE_SECTOR: Range<usize> = 0x5c..0x64;

/// Creates GRUB's files, embeds its core on the disk, and has its menu generated. Returns the boot code,
/// which is not on the disk.
pub(super) fn install(setting: &Setting<'_>) -> Result<BootCode, Cause> {
    let target = THIS.grub_bios.ok_or_else(|| Cause::MissingTool { tool: "GRUB for a BIOS".to_owned() })?;
    let install = tool::need(&["grub-install", "grub2-install"])?;
    let setup = bios_setup(&target);
    let setup = tool::need(&setup.each_ref().map(String::as_str))?;
    let home = grub::home(setting.root, install);

    grub::forget_stale_map(&home.join("device.map"))?;
    tool::run(
        install,
        &[&format!("--target={}", target.target), "--no-bootsector", &setting.disk.to_string_lossy()],
    )?;
    grub::write_menu(setting, &home.join("grub.cfg"))?;
    embed(setup, &home.join(target.target), setting.disk)
}

/// Embeds the core, and returns GRUB's boot code for this disk.
fn embed(setup: &str, platform: &Path, disk: &Path) -> Result<BootCode, Cause> {
    let image = platform.join("boot.img");
    let code = fs::read(&image).map_err(|e| Cause::file("read", &image, e))?;
    let inert = platform.join(INERT);
    fs::write(&inert, inert_image()).map_err(|e| Cause::file("write", &inert, e))?;
    let platform = platform.to_string_lossy();
    let run = tool::run(
        setup,
        &[&format!("--directory={platform}"), &format!("--boot-image={INERT}"), &disk.to_string_lossy()],
    );
    let removed = fs::remove_file(&inert).map_err(|e| Cause::file("remove", &inert, e));
    let taken = run.and_then(|()| {
        removed?;
        take(disk)
    });
    // Also after a failure: what the installer wrote is unknown.
    let cleared = boot_code::clear(disk).map_err(|e| Cause::file("clear the boot code of", disk, e));
    let (sector, core) = taken?;
    cleared?;
    filled_in(&code, &sector, &core)
        .map_err(|wrong| Cause::NotBootable { path: disk.to_owned(), wrong: wrong.to_owned() })
}

/// No code, but the signature without which a sector has no partition table.
fn inert_image() -> [u8; mbr::SIZE] {
    let mut image = [0; mbr::SIZE];
    image[510..].copy_from_slice(&[0x55, 0xaa]);
    image
}

/// Sector 0 as `grub-bios-setup` left it, and the sector at which it says the core begins.
fn take(disk: &Path) -> Result<([u8; mbr::SIZE], [u8; mbr::SIZE]), Cause> {
    let (mut sector, mut core) = ([0; mbr::SIZE], [0; mbr::SIZE]);
    File::open(disk)
        .and_then(|device| {
            device.read_exact_at(&mut sector, 0)?;
            let mut number = [0; 8];
            number.copy_from_slice(&sector[CORE_SECTOR]);
            // An impossible number gives a sector beyond every disk, which cannot be read.
            device.read_exact_at(&mut core, u64::from_le_bytes(number).saturating_mul(512))
        })
        .map_err(|e| Cause::file("read back", disk, e))?;
    Ok((sector, core))
}

/// GRUB's boot image with the values from the code-free image.
fn filled_in(
    image: &[u8],
    sector: &[u8; mbr::SIZE],
    core: &[u8; mbr::SIZE],
) -> Result<BootCode, &'static str> {
    let mut code = *image
        .first_chunk::<{ mbr::BOOT_CODE }>()
        .filter(|code| image.len() == mbr::SIZE && code.windows(4).any(|window| window == b"GRUB"))
        .ok_or("cannot boot: the copied system's boot.img is not GRUB's")?;
    let mut others = *sector;
    for place in FILLED_IN {
        others[place].fill(0);
    }
    if sector[510..] != [0x55, 0xaa] {
        Err("has no boot signature in its first sector")
    } else if others[..mbr::BOOT_CODE].iter().any(|byte| *byte != 0) {
        Err("has boot code where this version of GRUB should have none: it was removed")
    } else if sector[CORE_SECTOR].iter().all(|byte| *byte == 0) || core.iter().all(|byte| *byte == 0) {
        Err("has no core image of GRUB after its first sector")
    } else {
        for place in FILLED_IN {
            code[place.clone()].copy_from_slice(&sector[place]);
        }
        Ok(BootCode(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_code_is_grubs_with_what_was_filled_in() {
        let mut image = [0xcc; 512];
        image[0x180..0x184].copy_from_slice(b"GRUB");
        let mut sector = [0; 512];
        let mut core = [0; 512];
        let fault = |sector: &[u8; 512], core: &[u8; 512]| filled_in(&image, sector, core).unwrap_err();
        assert_eq!(fault(&sector, &core), "has no boot signature in its first sector");
        sector = inert_image();
        assert_eq!(fault(&sector, &core), "has no core image of GRUB after its first sector");
        sector[0x5c] = 3;
        sector[0x64] = 0xff;
        sector[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
        assert_eq!(fault(&sector, &core), "has no core image of GRUB after its first sector");
        core[100] = 1;
        // The table and the disk signature are not code.
        sector[440..510].fill(0xee);

        let BootCode(code) = filled_in(&image, &sector, &core).unwrap();

        assert_eq!(code[..0x5c], image[..0x5c]);
        assert_eq!(code[0x5c..0x68], [3, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xcc, 0x90, 0x90]);
        assert_eq!(code[0x68..], image[0x68..440]);
        for at in [0, 0x5b, 0x65, 0x68, 439] {
            let mut other = sector;
            other[at] = 1;
            assert!(fault(&other, &core).contains("where this version of GRUB should have none"), "{at}");
        }
        for no_image in [&image[..511], &[0xcc; 512]] {
            assert!(filled_in(no_image, &sector, &core).unwrap_err().contains("is not GRUB's"));
        }
    }
}
