//! Puts an entry for the new system into the firmware's boot menu (UEFI), at the right position.
//!
//! This does not use efibootmgr: a copied system may lack it, and it puts new entries first, so the machine
//! would never ask the network again what to boot.

mod load_option;
mod variables;

use std::io;

use ka::plan::BootOrder;

use crate::finish::error::Cause;
use load_option::{LoadOption, Partition, Signature};
pub(in crate::finish) use variables::Variables;

use crate::disk::MadeFileSystem;
use ka_host::{blkid, sysfs};

/// Where efivarfs is mounted.
pub(in crate::finish) const MOUNT_POINT: &str = "sys/firmware/efi/efivars";

/// Adds `file` (`\EFI\debian\grubx64.efi`) on the EFI system partition under the name `label`, at the
/// position given by `order`. It replaces an entry of the same name for a partition that no longer exists.
pub(in crate::finish) fn register(
    variables: &Variables,
    label: &str,
    esp: &MadeFileSystem,
    file: &str,
    order: BootOrder,
) -> Result<(), Cause> {
    let entry = LoadOption::of_file(label, &partition(esp)?, file);
    let number = enter(variables, &entry, order, present_partitions().as_deref())?;
    log::info!("the firmware's menu has the entry Boot{number:04X} {label}: {file}");
    Ok(())
}

/// The partition's place on its disk.
fn partition(esp: &MadeFileSystem) -> Result<Partition, Cause> {
    let failed = |e| Cause::file("look at", &esp.device, e);
    let signature = esp.partuuid.parse::<Signature>().map_err(|e| failed(io::Error::other(e)))?;
    for disk in sysfs::disks().map_err(failed)? {
        let partitions = sysfs::partitions(&disk).map_err(failed)?;
        if let Some(found) = partitions.iter().find(|partition| partition.node() == esp.device) {
            let block = sysfs::attribute(&disk, "queue/logical_block_size").map_err(failed)?;
            let block = block.parse::<u64>().ok().filter(|size| *size > 0);
            let block = block.ok_or_else(|| failed(io::Error::other("no block size in sysfs")))?;
            let (start, length) = (found.start / block, found.size / block);
            return Ok(Partition { number: found.number, start, length, signature });
        }
    }
    Err(failed(io::Error::other("it is a partition of no disk")))
}

/// The signatures of all partitions of this machine; `None` if one cannot be read.
fn present_partitions() -> Option<Vec<Signature>> {
    let mut found = Vec::new();
    for disk in sysfs::disks().ok()? {
        for partition in sysfs::partitions(&disk).ok()? {
            let contents = blkid::probe(&partition.node()).ok()?;
            found.extend(contents.partuuid.and_then(|partuuid| partuuid.parse().ok()));
        }
    }
    Some(found)
}

/// Writes the entry and the boot order; returns the entry's number.
fn enter(
    variables: &Variables,
    entry: &LoadOption,
    order: BootOrder,
    present: Option<&[Signature]>,
) -> Result<u16, Cause> {
    let mut entries = Vec::new();
    for number in variables.boot_numbers()? {
        let value = variables.read(&variable(number))?.unwrap_or_default();
        entries.push((number, LoadOption::decode(&value)));
    }
    let gone = |old: &LoadOption| match (old.signature(), present) {
        (Some(signature), Some(present)) => !present.contains(&signature),
        _ => false,
    };
    let is_ours = |old: &LoadOption| old == entry || (old.description == entry.description && gone(old));
    let reused = entries.iter().find(|(_, old)| old.as_ref().is_some_and(is_ours)).map(|(number, _)| *number);
    let old_order = order_of(&variables.read("BootOrder")?.unwrap_or_default());
    let taken = |number: &u16| entries.iter().any(|(n, _)| n == number) || old_order.contains(number);
    let number = reused.or_else(|| (0..=u16::MAX).find(|number| !taken(number))).unwrap_or(u16::MAX);

    variables.write(&variable(number), &entry.encode())?;
    let is_network = |number: &u16| {
        entries.iter().any(|(n, option)| n == number && option.as_ref().is_some_and(LoadOption::is_network))
    };
    // A machine that is sent on to its disk must not first wait for entries that no server answers, such as
    // PXE by IPv6: that takes minutes.
    let booted = order_of(&variables.read("BootCurrent")?.unwrap_or_default()).first().copied();
    let booted = booted.filter(is_network);
    let new_order = with(number, &old_order, order, |n| booted.map_or_else(|| is_network(n), |b| *n == b));
    variables.write("BootOrder", &new_order.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>())?;
    Ok(number)
}

fn variable(number: u16) -> String {
    format!("Boot{number:04X}")
}

fn order_of(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// The boot order with `number`: first the network entry, or all of them, if requested, then `number`, then
/// the others.
fn with(number: u16, old: &[u16], order: BootOrder, leads: impl Fn(&u16) -> bool) -> Vec<u16> {
    let others = || old.iter().copied().filter(|n| *n != number);
    let first = |n: &u16| order == BootOrder::Network && leads(n);
    others().filter(first).chain([number]).chain(others().filter(|n| !first(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::load_option::tests::{disk_entry, network_entry};
    use super::*;
    use std::process::Command;

    const NEW: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
    const OLD: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";

    /// The firmware's variables, in a temporary directory.
    struct Firmware(tempfile::TempDir, Variables);

    impl Firmware {
        /// `Boot0000` boots from a partition, `0001` and `0003` over the network, `0007` from another
        /// partition.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let variables = Variables::at(directory.path());
            let firmware = Self(directory, variables);
            let vars = &firmware.1;
            vars.write("Boot0000", &disk_entry("debian", OLD).encode()).unwrap();
            vars.write("Boot0001", &network_entry("PXEv4").encode()).unwrap();
            vars.write("Boot0003", &network_entry("PXEv6").encode()).unwrap();
            vars.write("Boot0007", b"rubbish").unwrap();
            let order: Vec<u8> = [0u16, 7, 1, 3].iter().flat_map(|n| n.to_le_bytes()).collect();
            vars.write("BootOrder", &order).unwrap();
            firmware
        }
    }

    #[test]
    fn the_network_stays_first_unless_the_disk_is_to_be() {
        let network = |n: &u16| [1, 3].contains(n);
        assert_eq!(with(9, &[0, 1, 2, 3], BootOrder::Network, network), [1, 3, 9, 0, 2]);
        assert_eq!(with(2, &[0, 1, 2, 3], BootOrder::Network, network), [1, 3, 2, 0]);
        assert_eq!(with(9, &[0, 1, 2, 3], BootOrder::Disk, network), [9, 0, 1, 2, 3]);
        assert_eq!(with(9, &[], BootOrder::Network, network), [9]);
    }

    #[test]
    fn of_the_networks_entries_the_one_that_was_booted_comes_first() {
        let firmware = Firmware::new();
        firmware.1.write("BootCurrent", &3u16.to_le_bytes()).unwrap();
        let entry = disk_entry("debian", NEW);
        let present: Option<Vec<Signature>> = Some(vec![OLD.parse().unwrap()]);
        let number = enter(&firmware.1, &entry, BootOrder::Network, present.as_deref()).unwrap();
        assert_eq!(order_of(&firmware.1.read("BootOrder").unwrap().unwrap()), [3, number, 0, 7, 1]);
    }

    /// efibootmgr judges the result.
    #[test]
    fn efibootmgr_reads_the_entry() {
        let firmware = Firmware::new();
        let present: Option<Vec<Signature>> = Some(vec![OLD.parse().unwrap(), NEW.parse().unwrap()]);
        let number =
            enter(&firmware.1, &disk_entry("debian", NEW), BootOrder::Network, present.as_deref()).unwrap();
        assert_eq!(number, 2);
        let output = Command::new("efibootmgr")
            .arg("-v")
            .env("EFIVARFS_PATH", format!("{}/", firmware.0.path().display()))
            .output()
            .expect("efibootmgr is needed for this test");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("BootOrder: 0001,0003,0002,0000,0007"), "{text}{output:?}");
        let line = text.lines().find(|line| line.starts_with("Boot0002")).unwrap();
        assert!(line.starts_with("Boot0002* debian"), "{line}");
        assert!(line.contains(&format!("HD(1,GPT,{NEW},0x800,0x100000)")), "{line}");
        assert!(line.replace('/', "\\").contains("\\EFI\\debian\\grubx64.efi"), "{line}");
    }

    #[test]
    fn an_entry_for_a_partition_that_is_gone_is_replaced() {
        for (present, number) in [(Some(vec![]), 0), (Some(vec![OLD.parse().unwrap()]), 2), (None, 2)] {
            let firmware = Firmware::new();
            let entry = disk_entry("debian", NEW);
            assert_eq!(enter(&firmware.1, &entry, BootOrder::Disk, present.as_deref()).unwrap(), number);
            let written = firmware.1.read(&variable(number)).unwrap().unwrap();
            assert_eq!(LoadOption::decode(&written), Some(entry.clone()));
            // Repeating it changes nothing.
            assert_eq!(enter(&firmware.1, &entry, BootOrder::Disk, present.as_deref()).unwrap(), number);
            assert_eq!(order_of(&firmware.1.read("BootOrder").unwrap().unwrap())[0], number);
        }
    }
}
