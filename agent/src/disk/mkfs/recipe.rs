//! The tools and options that create a file system as the plan describes it.

use super::features::{self, Known};
use super::fresh_uuid;
use crate::disk::error::{DiskError, RecipeError};
use ka::disk::units::{InMb, MB, SectorSize};
use ka::plan::room;
use ka::plan::{ExtSettings, FileSystemKind, FileSystemPlan, Shape};
use std::path::Path;

/// The smallest XFS that is laid out for a RAID, in bytes: below this, mkfs.xfs 6 rejects its log as too
/// small.
const STRIPED: u64 = 4 << 30;

/// The XFS feature for case-insensitive names; mkfs.xfs calls it a directory version.
const ASCII_CI: &str = "ascii-ci";

/// The commands that create one file system. Each gets the device as its last argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Recipe {
    /// The UUID that the file system will have, as blkid prints it.
    pub(super) uuid: String,
    /// Programs and their arguments, in order.
    pub(super) commands: Vec<(&'static str, Vec<String>)>,
    /// Settings that this partition cannot have.
    pub(in super::super) left_out: Vec<String>,
}

/// The partition for a file system.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Target {
    /// Its size in bytes.
    pub(in super::super) size: u64,
    /// The disk's sector size.
    pub(in super::super) sector: SectorSize,
    /// Firmware reads files from it.
    pub(in super::super) is_esp: bool,
}

impl Recipe {
    /// The recipe of a file system. Nothing is written.
    pub(in super::super) fn new(
        plan: &FileSystemPlan,
        target: Target,
        device: &Path,
    ) -> Result<Self, DiskError> {
        let failed = |reason| DiskError::Recipe { device: device.to_owned(), kind: plan.kind, reason };
        let uuid = match &plan.uuid {
            Some(uuid) => wanted_uuid(plan.kind, uuid).map_err(failed)?,
            None => {
                let uuid = fresh_uuid().map_err(|e| DiskError::io(device, "get a fresh UUID", e))?;
                if plan.kind == FileSystemKind::Vfat { serial_number(&uuid) } else { uuid }
            }
        };
        for program in programs(plan.kind) {
            features::find(program).ok_or_else(|| failed(RecipeError::NoTool(program)))?;
        }
        let known = if plan.shape.features.is_some() { Known::ask(plan.kind) } else { Known::default() };
        let mut left_out = Vec::new();
        let commands = commands(plan, &uuid, target, &known, &mut left_out);
        Ok(Self { uuid, commands, left_out })
    }
}

/// The programs that a kind needs, the one that creates it first.
pub(super) fn programs(kind: FileSystemKind) -> &'static [&'static str] {
    match kind {
        FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => &["mke2fs"],
        FileSystemKind::Xfs => &["mkfs.xfs"],
        // mkfs.jfs always chooses the UUID itself.
        FileSystemKind::Jfs => &["mkfs.jfs", "jfs_tune"],
        FileSystemKind::Reiserfs => &["mkfs.reiserfs"],
        FileSystemKind::Btrfs => &["mkfs.btrfs"],
        FileSystemKind::Vfat => &["mkfs.vfat"],
        FileSystemKind::Swap => &["mkswap"],
    }
}

fn commands(
    plan: &FileSystemPlan,
    uuid: &str,
    target: Target,
    known: &Known,
    left_out: &mut Vec<String>,
) -> Vec<(&'static str, Vec<String>)> {
    let shape = &plan.shape;
    let (label_option, options) = match plan.kind {
        FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => {
            ("-L", ext(plan, uuid, target, left_out))
        }
        FileSystemKind::Xfs => ("-L", xfs(shape, uuid, target, known, left_out)),
        FileSystemKind::Jfs => ("-L", words(&["-q"])),
        FileSystemKind::Reiserfs => ("-l", reiserfs(shape, uuid)),
        FileSystemKind::Btrfs => ("-L", btrfs(shape, uuid, target, known)),
        FileSystemKind::Vfat => ("-n", vfat(shape, uuid, target, left_out)),
        FileSystemKind::Swap => ("-L", words(&["-U", uuid])),
    };
    let mut options = options;
    if let Some(label) = plan.label.as_ref().filter(|label| !label.is_empty()) {
        options.extend([label_option.to_owned(), label.clone()]);
    }
    let programs = programs(plan.kind);
    let mut commands = Vec::new();
    commands.extend(programs.first().map(|program| (*program, options)));
    // A later program sets the UUID.
    commands.extend(programs.get(1).map(|program| (*program, words(&["-U", uuid]))));
    commands.extend(shape.ext.as_ref().filter(|_| is_ext(plan.kind)).map(|ext| ("tune2fs", tune(ext))));
    commands
}

fn ext(plan: &FileSystemPlan, uuid: &str, target: Target, left_out: &mut Vec<String>) -> Vec<String> {
    let FileSystemPlan { kind, shape, .. } = plan;
    let mut options = words(&["-q", "-F", "-t", kind.name(), "-U", uuid]);
    if let Some(size) = at_least_a_sector(shape.block_size, target) {
        options.extend(["-b".to_owned(), size.to_string()]);
    }
    if let Some(size) = shape.inode_size {
        options.extend(["-I".to_owned(), size.to_string()]);
    }
    let bytes_per_inode = room::bytes_per_inode(plan, target.size);
    if shape.bytes_per_inode.is_some() || bytes_per_inode != room::default_bytes_per_inode(target.size) {
        options.extend(["-i".to_owned(), bytes_per_inode.to_string()]);
    }
    if let Some(reserved) = shape.reserved {
        // mke2fs accepts at most half of the blocks.
        let reserved = reserved.min(50_000);
        options.extend(["-m".to_owned(), format!("{}.{:03}", reserved / 1000, reserved % 1000)]);
    }
    if let Some(settings) = &shape.ext {
        options.extend(ext_settings(settings, shape, target, left_out));
    }
    let features = match (&shape.features, kind) {
        (Some(features), _) => {
            let block = at_least_a_sector(shape.block_size, target).unwrap_or(4096);
            features::ext(features, target.size / block)
        }
        // GRUB 2.06 cannot read an ext4 with a separate checksum seed. All other features follow the golden
        // node's mke2fs.conf.
        (None, FileSystemKind::Ext4) => "^metadata_csum_seed".to_owned(),
        (None, _) => return options,
    };
    options.extend(["-O".to_owned(), features]);
    options
}

/// The settings for mke2fs.
fn ext_settings(
    settings: &ExtSettings,
    shape: &Shape,
    target: Target,
    left_out: &mut Vec<String>,
) -> Vec<String> {
    let mut options = Vec::new();
    let errors = match settings.errors {
        2 => "remount-ro",
        3 => "panic",
        _ => "continue",
    };
    options.extend(words(&["-e", errors]));
    let block = at_least_a_sector(shape.block_size, target).unwrap_or(4096);
    if let Some(cluster) = settings.cluster_size.map(u64::from) {
        // A cluster has at least two blocks.
        options.extend(["-C".to_owned(), cluster.max(2 * block).to_string()]);
    }
    if let Some(journal) = settings.journal {
        let least = 1024 * block;
        // mke2fs accepts whole MB, and at most half of the blocks. The space for files is calculated with
        // this value.
        if (least..=target.size / 4).contains(&journal) {
            options.extend(["-J".to_owned(), format!("size={}", journal.div_ceil(MB))]);
        } else {
            left_out.push(format!("a journal of {} does not fit its size", InMb(journal)));
        }
    }
    let (stride, width) = (settings.stride / block, settings.stripe_width / block);
    let raid: Vec<String> = [("stride", stride), ("stripe_width", width)]
        .into_iter()
        .filter(|(_, blocks)| *blocks > 0)
        .map(|(name, blocks)| format!("{name}={blocks}"))
        .collect();
    if !raid.is_empty() {
        options.extend(["-E".to_owned(), raid.join(",")]);
    }
    options
}

/// The settings that only tune2fs accepts.
fn tune(settings: &ExtSettings) -> Vec<String> {
    /// Names and bits (ext4(5), `s_default_mount_opts`). The journalling mode is a two-bit number.
    const OPTIONS: [(u32, &str); 9] = [
        (0x1, "debug"),
        (0x2, "bsdgroups"),
        (0x4, "user_xattr"),
        (0x8, "acl"),
        (0x10, "uid16"),
        (0x100, "nobarrier"),
        (0x200, "block_validity"),
        (0x400, "discard"),
        (0x800, "nodelalloc"),
    ];
    let bits = settings.mount_options;
    let mut options: Vec<String> = OPTIONS
        .into_iter()
        .map(|(bit, name)| format!("{}{name}", if bits & bit == 0 { "^" } else { "" }))
        .collect();
    options.push(
        match bits & 0x60 {
            0x20 => "journal_data",
            0x40 => "journal_data_ordered",
            0x60 => "journal_data_writeback",
            _ => "^journal_data",
        }
        .to_owned(),
    );
    let mounts = if settings.max_mounts < 1 { -1 } else { settings.max_mounts };
    let interval = format!("{}s", settings.check_interval);
    let mut arguments = words(&["-o", &options.join(",")]);
    arguments.extend(["-c".to_owned(), mounts.to_string(), "-i".to_owned(), interval]);
    arguments
}

fn is_ext(kind: FileSystemKind) -> bool {
    matches!(kind, FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4)
}

fn xfs(shape: &Shape, uuid: &str, target: Target, known: &Known, left_out: &mut Vec<String>) -> Vec<String> {
    let mut options = words(&["-q", "-f"]);
    if let Some(size) = at_least_a_sector(shape.block_size, target) {
        options.extend(["-b".to_owned(), format!("size={size}")]);
    }
    if let Some((unit, width)) = shape.stripe {
        let block = at_least_a_sector(shape.block_size, target).unwrap_or(4096);
        let is_even = u64::from(unit).is_multiple_of(block) && width.is_multiple_of(unit);
        // For a RAID, mkfs.xfs creates many allocation groups. Each must hold several stripes, or the log.
        if is_even && (u64::from(width) * 256).max(STRIPED) <= target.size {
            options.extend(["-d".to_owned(), format!("su={unit},sw={}", width / unit)]);
        } else {
            left_out.push(format!("a stripe of {unit} and {width} bytes (sunit, swidth) does not fit it"));
        }
    }
    let mut sections = vec![("-m", vec![format!("uuid={uuid}")]), ("-i", Vec::new()), ("-n", Vec::new())];
    if let Some(features) = &shape.features {
        let mut made = features::xfs(features, known);
        made.extend(features.iter().any(|name| name == ASCII_CI).then(|| ("-n", "version=ci".to_owned())));
        let is_made =
            |name: &String| name == ASCII_CI || made.iter().any(|(_, option)| *option == format!("{name}=1"));
        let lost = features.iter().filter(|name| !is_made(name));
        left_out.extend(lost.map(|name| format!("this mkfs.xfs cannot create the feature {name}")));
        for (section, option) in made {
            if let Some((_, options)) = sections.iter_mut().find(|(name, _)| *name == section) {
                options.push(option);
            }
        }
    }
    if let (Some(size), Some((_, inode))) =
        (shape.inode_size, sections.iter_mut().find(|(name, _)| *name == "-i"))
    {
        inode.push(format!("size={size}"));
    }
    for (section, values) in sections.into_iter().filter(|(_, values)| !values.is_empty()) {
        options.extend([section.to_owned(), values.join(",")]);
    }
    options
}

fn reiserfs(shape: &Shape, uuid: &str) -> Vec<String> {
    let mut options = words(&["-q", "-f", "-f", "--format", "3.6", "-u", uuid]);
    // Linux mounts no other block sizes.
    if shape.block_size == Some(4096) {
        options.extend(words(&["-b", "4096"]));
    }
    options
}

fn btrfs(shape: &Shape, uuid: &str, target: Target, known: &Known) -> Vec<String> {
    let mut options = words(&["-q", "-f", "-U", uuid]);
    if let Some(size) = at_least_a_sector(shape.block_size, target) {
        options.extend(["-s".to_owned(), size.to_string()]);
    }
    if let Some(features) = &shape.features {
        let (format, runtime) = features::btrfs(features, known);
        for (option, list) in [("-O", format), ("-R", runtime)] {
            if !list.is_empty() {
                options.extend([option.to_owned(), list]);
            }
        }
    }
    options
}

/// The FAT type and the cluster size depend on each other. Values that do not match the partition's size are
/// left to the tool.
fn vfat(shape: &Shape, uuid: &str, target: Target, left_out: &mut Vec<String>) -> Vec<String> {
    let mut options = words(&["-i", &uuid.replace('-', "")]);
    if target.is_esp && shape.fat_bits.is_none() {
        // A partition that firmware reads must be FAT32 (UEFI specification, 13.3); with few sectors the tool
        // would choose fewer bits.
        if room::holds_fat32(target.size, target.sector) {
            options.extend(words(&["-F", "32"]));
            if target.size < 2 * room::least_fat32(target.sector) {
                options.extend(words(&["-s", "1"]));
            }
        } else {
            left_out.push(format!(
                "an EFI system partition of {} is too small for FAT32, which takes {} with sectors of {} bytes; firmware \
                 may not read it",
                InMb(target.size),
                InMb(room::least_fat32(target.sector)),
                target.sector.bytes()
            ));
        }
        return options;
    }
    let bits = shape.fat_bits.filter(|bits| match bits {
        // Clusters of at most 32 KiB, which every implementation reads.
        12 => target.size <= 4084 * (32 << 10),
        16 => (4 * MB..=65_524 * (32 << 10)).contains(&target.size),
        _ => *bits == 32 && target.size >= 32 * MB,
    });
    let Some(bits) = bits else { return options };
    options.extend(["-F".to_owned(), bits.to_string()]);
    let per_cluster = shape.block_size.map(u64::from).filter(|bytes| *bytes >= target.sector.bytes());
    if let Some(bytes) = per_cluster {
        let clusters = target.size / bytes;
        // Leaves some space for the tables themselves.
        let fits = match bits {
            12 => clusters < 4_000,
            16 => (4_400..65_000).contains(&clusters),
            _ => clusters > 66_500,
        };
        if fits {
            options.extend(["-s".to_owned(), (bytes / target.sector.bytes()).to_string()]);
        }
    }
    options
}

/// No tool creates blocks smaller than the disk's sectors.
fn at_least_a_sector(size: Option<u32>, target: Target) -> Option<u64> {
    size.map(|size| u64::from(size).max(target.sector.bytes()))
}

/// The UUID in the plan, as blkid prints it.
fn wanted_uuid(kind: FileSystemKind, text: &str) -> Result<String, RecipeError> {
    let (lengths, expected): (&[usize], _) = match kind {
        FileSystemKind::Vfat => (&[4, 4], "such as 1A2B-3C4D"),
        _ => (&[8, 4, 4, 4, 12], "such as 01234567-89ab-cdef-0123-456789abcdef"),
    };
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
    if !is_hex || !parts.iter().map(|part| part.len()).eq(lengths.iter().copied()) {
        return Err(RecipeError::Uuid { found: text.to_owned(), expected });
    }
    Ok(if kind == FileSystemKind::Vfat { text.to_ascii_uppercase() } else { text.to_ascii_lowercase() })
}

/// FAT's volume ID, taken from a random UUID.
fn serial_number(uuid: &str) -> String {
    let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    let (first, second) = digits.split_at(digits.len().min(4));
    format!("{first}-{second}").to_ascii_uppercase()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn line(kind: FileSystemKind, shape: Shape, size: u64, sector: u32, known: &Known) -> String {
        let plan = FileSystemPlan { shape, label: Some("name".into()), ..FileSystemPlan::new(kind) };
        let uuid = if kind == FileSystemKind::Vfat { "1A2B-3C4D" } else { UUID };
        let target = Target { size, sector: SectorSize::try_from(sector).unwrap(), is_esp: false };
        let commands = commands(&plan, uuid, target, known, &mut Vec::new());
        let one = |(program, arguments): &(&str, Vec<String>)| format!("{program} {}", arguments.join(" "));
        commands.iter().map(one).collect::<Vec<_>>().join("; ").replace(UUID, "UUID")
    }

    #[test]
    fn every_kind_has_its_tool() {
        for (kind, expected) in [
            (FileSystemKind::Ext2, "mke2fs -q -F -t ext2 -U UUID -L name"),
            (FileSystemKind::Ext3, "mke2fs -q -F -t ext3 -U UUID -L name"),
            (FileSystemKind::Ext4, "mke2fs -q -F -t ext4 -U UUID -O ^metadata_csum_seed -L name"),
            (FileSystemKind::Xfs, "mkfs.xfs -q -f -m uuid=UUID -L name"),
            (FileSystemKind::Jfs, "mkfs.jfs -q -L name; jfs_tune -U UUID"),
            (FileSystemKind::Reiserfs, "mkfs.reiserfs -q -f -f --format 3.6 -u UUID -l name"),
            (FileSystemKind::Btrfs, "mkfs.btrfs -q -f -U UUID -L name"),
            (FileSystemKind::Vfat, "mkfs.vfat -i 1A2B3C4D -n name"),
            (FileSystemKind::Swap, "mkswap -U UUID -L name"),
        ] {
            assert_eq!(line(kind, Shape::default(), 512 * MB, 512, &Known::default()), expected);
        }
    }

    #[test]
    fn the_shape_becomes_options() {
        let features = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let ext = Shape {
            block_size: Some(1024),
            inode_size: Some(128),
            bytes_per_inode: None,
            reserved: Some(1500),
            features: features(&["has_journal", "needs_recovery", "extent"]),
            ..Shape::default()
        };
        let none = Known::default();
        assert_eq!(
            line(FileSystemKind::Ext4, ext.clone(), 512 * MB, 512, &none),
            "mke2fs -q -F -t ext4 -U UUID -b 1024 -I 128 -m 1.500 -O none,has_journal,extent -L name"
        );
        assert!(line(FileSystemKind::Ext4, ext.clone(), 512 * MB, 4096, &none).contains(" -b 4096 "));
        let huge = line(FileSystemKind::Ext4, ext, 5 << 40, 512, &none);
        assert!(huge.contains("-O none,has_journal,extent,64bit "), "{huge}");
        let known = Known::of(
            "crc=0|1,finobt=0|1 reflink=0|1 nrext64=0|1 ftype=0|1",
            "no-holes\nextref\n",
            "free-space-tree\n",
        );
        let xfs = Shape {
            block_size: Some(4096),
            inode_size: Some(512),
            features: features(&["crc", "reflink", "ftype", "bigtime", "ascii-ci"]),
            ..Shape::default()
        };
        let mut left_out = Vec::new();
        let target = Target { size: 512 * MB, sector: SectorSize::B512, is_esp: false };
        super::xfs(&xfs, "UUID", target, &known, &mut left_out);
        assert_eq!(left_out, ["this mkfs.xfs cannot create the feature bigtime"]);
        assert_eq!(
            line(FileSystemKind::Xfs, xfs, 512 * MB, 512, &known),
            "mkfs.xfs -q -f -b size=4096 -m uuid=UUID,crc=1,finobt=0,reflink=1 -i nrext64=0,size=512 -n ftype=1,version=ci -L name"
        );
        let btrfs = Shape {
            block_size: Some(4096),
            features: features(&["no-holes", "free-space-tree", "unheard-of"]),
            ..Shape::default()
        };
        assert_eq!(
            line(FileSystemKind::Btrfs, btrfs, 512 * MB, 512, &known),
            "mkfs.btrfs -q -f -U UUID -s 4096 -O ^extref,no-holes -R free-space-tree -L name"
        );
    }

    #[test]
    fn inodes_are_enough_for_the_golden_files() {
        let made = |bytes_per_inode, inodes, mb| {
            let shape = Shape { bytes_per_inode, ..Shape::default() };
            let plan = FileSystemPlan { shape, inodes, ..FileSystemPlan::new(FileSystemKind::Ext2) };
            let target = Target { size: mb * MB, sector: SectorSize::B512, is_esp: false };
            ext(&plan, UUID, target, &mut Vec::new())
                .join(" ")
                .replace(UUID, "UUID")
                .replace("-q -F -t ext2 -U UUID", "")
        };
        assert_eq!(made(None, 60_000, 400), "");
        assert_eq!(made(None, 60_000, 600), " -i 9983");
        assert_eq!(made(Some(2048), 0, 400), " -i 2048");
        assert_eq!(made(Some(1 << 20), 60_000, 400), " -i 6655");
    }

    #[test]
    fn fat_keeps_what_goes_with_its_size() {
        let shape =
            |bits, cluster| Shape { fat_bits: Some(bits), block_size: Some(cluster), ..Shape::default() };
        for (bits, cluster, mb, sector, expected) in [
            (32, 4096, 512, 512, "-F 32 -s 8 "),
            (32, 4096, 512, 4096, "-F 32 -s 1 "),
            (32, 4096, 100, 512, "-F 32 "),
            (32, 512, 512, 4096, "-F 32 "),
            (32, 512, 16, 512, ""),
            (16, 2048, 64, 512, "-F 16 -s 4 "),
            (16, 2048, 512, 512, "-F 16 "),
            (16, 2048, 4096, 512, ""),
            (12, 4096, 8, 512, "-F 12 -s 8 "),
            (12, 4096, 4096, 512, ""),
            (64, 4096, 512, 512, ""),
        ] {
            let line = line(FileSystemKind::Vfat, shape(bits, cluster), mb * MB, sector, &Known::default());
            assert_eq!(line, format!("mkfs.vfat -i 1A2B3C4D {expected}-n name"), "{bits} {cluster} {mb}");
        }
    }

    #[test]
    fn a_new_efi_system_partition_is_fat32() {
        for (mb, sector, expected) in [
            (33, 512, "-F 32 -s 1 "),
            (100, 512, "-F 32 "),
            (260, 4096, "-F 32 -s 1 "),
            (1024, 4096, "-F 32 "),
            (32, 512, ""),
            (200, 4096, ""),
        ] {
            let plan =
                FileSystemPlan { label: Some("E".into()), ..FileSystemPlan::new(FileSystemKind::Vfat) };
            let target =
                Target { size: mb * MB, sector: SectorSize::try_from(sector).unwrap(), is_esp: true };
            let mut left_out = Vec::new();
            let made = commands(&plan, "1A2B-3C4D", target, &Known::default(), &mut left_out);
            assert_eq!(made[0].1.join(" "), format!("-i 1A2B3C4D {expected}-n E"), "{mb} {sector}");
            assert_eq!(left_out.len(), usize::from(expected.is_empty()), "{left_out:?}");
        }
    }

    #[test]
    fn settings_of_ext_that_are_no_features_are_kept() {
        let settings = ExtSettings {
            errors: 2,
            mount_options: 0x4 | 0x8 | 0x60 | 0x400,
            max_mounts: 30,
            check_interval: 86_400,
            journal: Some(64 << 20),
            stride: 65_536,
            stripe_width: 262_144,
            cluster_size: Some(65_536),
        };
        let shape = Shape { block_size: Some(4096), ext: Some(settings), ..Shape::default() };
        let plan = FileSystemPlan { shape, ..FileSystemPlan::new(FileSystemKind::Ext4) };
        let made = |mb| {
            let target = Target { size: mb * MB, sector: SectorSize::B512, is_esp: false };
            let mut left_out = Vec::new();
            (commands(&plan, UUID, target, &Known::default(), &mut left_out), left_out)
        };
        let (commands, left_out) = made(1024);
        assert!(
            commands[0]
                .1
                .join(" ")
                .contains("-e remount-ro -C 65536 -J size=64 -E stride=16,stripe_width=64"),
            "{commands:?}"
        );
        assert_eq!(commands[1].0, "tune2fs");
        assert_eq!(
            commands[1].1.join(" "),
            "-o ^debug,^bsdgroups,user_xattr,acl,^uid16,^nobarrier,^block_validity,discard,^nodelalloc,\
             journal_data_writeback -c 30 -i 86400s"
        );
        assert!(left_out.is_empty());
        let (commands, left_out) = made(100);
        assert!(!commands[0].1.contains(&"-J".to_owned()) && left_out.len() == 1, "{left_out:?}");
    }

    #[test]
    fn uuids_are_checked_before_anything_is_written() {
        assert_eq!(wanted_uuid(FileSystemKind::Vfat, "1a2b-3c4d").unwrap(), "1A2B-3C4D");
        assert_eq!(wanted_uuid(FileSystemKind::Xfs, &UUID.to_uppercase()).unwrap(), UUID);
        for (kind, text) in [
            (FileSystemKind::Vfat, UUID),
            (FileSystemKind::Ext4, "1a2b-3c4d"),
            (FileSystemKind::Ext4, ""),
            (FileSystemKind::Ext4, "0123456-789ab-cdef-0123-456789abcdef"),
            (FileSystemKind::Ext4, "-1234567-89ab-cdef-0123-456789abcdeg"),
        ] {
            assert!(wanted_uuid(kind, text).is_err(), "{text}");
        }
        assert_eq!(serial_number(UUID), "0123-4567");
    }
}
