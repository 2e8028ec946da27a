//! Superblocks created by other tools.

use super::*;
use std::process::Command;

/// An image on which `script` has created a file system as `$1`, and the script's output.
fn made(kind: FileSystemKind, megabytes: u64, script: &str) -> (Made, String) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
    let output = Command::new("sh")
        .args(["-ec", script, "sh"])
        .arg(&image)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    (read(kind, &image).unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn features(made: &Made) -> Vec<&str> {
    made.shape.features.iter().flatten().map(String::as_str).collect()
}

/// dumpe2fs is the judge of ext.
#[test]
fn ext_tells_what_dumpe2fs_tells() {
    for (kind, options) in [
        (FileSystemKind::Ext2, "-t ext2"),
        (FileSystemKind::Ext3, "-t ext3 -b 4096 -I 128"),
        (FileSystemKind::Ext4, "-t ext4 -m 0 -O metadata_csum_seed,quota,^resize_inode,meta_bg"),
        (
            FileSystemKind::Ext4,
            "-t ext4 -m 1.25 -b 2048 -I 512 -O ^64bit,inline_data,^metadata_csum,uninit_bg",
        ),
        (FileSystemKind::Ext4, "-t ext4 -O bigalloc,project,casefold,encrypt,verity,large_dir,ea_inode,mmp"),
        (FileSystemKind::Ext4, "-t ext4 -O sparse_super2,stable_inodes,^has_journal"),
    ] {
        let script = format!("mke2fs -q {options} \"$1\"; dumpe2fs -h \"$1\" 2>/dev/null");
        let (made, told) = made(kind, 64, &script);
        let value = |key: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("{options}: no {key} in {told}")).trim().to_owned()
        };
        let number = |key: &str| value(key).parse::<u64>().unwrap();
        let shape = &made.shape;
        assert_eq!(u64::from(shape.block_size.unwrap()), number("Block size"), "{options}");
        assert_eq!(u64::from(shape.inode_size.unwrap()), number("Inode size"), "{options}");
        let reserved = u64::from(shape.reserved.unwrap()) * number("Block count") / 100_000;
        assert!(reserved.abs_diff(number("Reserved block count")) <= 1, "{options}: {shape:?}");
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        let expected = value("Filesystem features").split(' ').map(str::to_owned).collect();
        assert_eq!(sorted(shape.features.clone().unwrap()), sorted(expected), "{options}");
    }
}

/// dumpe2fs is the judge of the settings that are not features.
#[test]
fn ext_tells_its_settings() {
    let script = "mke2fs -q -t ext4 -b 4096 -e panic -C 65536 -J size=32 -E stride=16,stripe_width=64 -O bigalloc \"$1\"
        tune2fs -o ^acl,discard,journal_data_writeback -c 30 -i 7d \"$1\" >&2; dumpe2fs -h \"$1\" 2>/dev/null";
    let (made, told) = made(FileSystemKind::Ext4, 512, script);
    let ext = made.shape.ext.unwrap();
    assert_eq!((ext.errors, ext.max_mounts, ext.check_interval), (3, 30, 7 * 86_400), "{told}");
    assert_eq!((ext.stride, ext.stripe_width, ext.cluster_size), (65_536, 262_144, Some(65_536)));
    assert_eq!(ext.journal, Some(32 << 20), "{told}");
    assert_eq!(ext.mount_options & (0x8 | 0x60 | 0x400), 0x60 | 0x400, "{told}");
    for line in
        ["Panic", "Maximum mount count:      30", "RAID stripe width:        64", "journal_data_writeback"]
    {
        assert!(told.contains(line), "{line}: {told}");
    }
    let (plain, _) = super::tests::made(FileSystemKind::Ext4, 512, "mke2fs -q -t ext4 \"$1\"");
    assert_eq!(plain.shape.ext.unwrap().journal, None);
}

#[test]
fn xfs_tells_its_stripe() {
    let (made, _) = made(FileSystemKind::Xfs, 4096, "mkfs.xfs -q -d su=64k,sw=4 \"$1\"");
    assert_eq!(made.shape.stripe, Some((65_536, 262_144)));
    let (plain, _) = super::tests::made(FileSystemKind::Xfs, 400, "mkfs.xfs -q -d noalign \"$1\"");
    assert_eq!((plain.shape.stripe, plain.quotas), (None, false));
}

/// mke2fs is the judge: the derived settings produce the same number of inodes again.
#[test]
fn ext_tells_how_many_inodes_it_was_made_with() {
    for (megabytes, options, expected) in [
        (64, "-t ext4", None),
        (511, "-t ext4", None),
        (600, "-t ext4", None),
        (700, "-t ext2 -b 4096", None),
        (64, "-t ext4 -i 1024", Some(1024)),
        (600, "-t ext4 -T news", Some(4096)),
        (600, "-t ext3 -i 65536", Some(65_536)),
    ] {
        let (made, told) = made(
            FileSystemKind::Ext4,
            megabytes,
            &format!("mke2fs -q {options} \"$1\"; dumpe2fs -h \"$1\" 2>/dev/null"),
        );
        assert_eq!(made.shape.bytes_per_inode, expected, "{options}");
        let Some(ratio) = expected else { continue };
        let (_, again) = super::tests::made(
            FileSystemKind::Ext4,
            megabytes,
            &format!("mke2fs -q {options} -i {ratio} \"$1\"; dumpe2fs -h \"$1\" 2>/dev/null"),
        );
        let inodes = |told: &str| -> u64 {
            let line = told.lines().find_map(|line| line.strip_prefix("Inode count:")).unwrap();
            line.trim().parse().unwrap()
        };
        assert!(inodes(&again) >= inodes(&told), "{options}: {ratio}");
    }
}

#[test]
fn ext_keeps_no_marks_of_the_moment() {
    let (made, _) = made(
        FileSystemKind::Ext4,
        16,
        "mke2fs -q -t ext4 \"$1\"; debugfs -w -R 'feature needs_recovery' \"$1\" 2>/dev/null",
    );
    assert!(features(&made).contains(&"has_journal"));
    assert!(!features(&made).iter().any(|name| name.is_empty() || *name == "needs_recovery"), "{made:?}");
    let (old, _) = super::tests::made(FileSystemKind::Ext2, 16, "mke2fs -q -t ext2 -r 0 \"$1\" 2>&1");
    assert_eq!((old.shape.inode_size, old.shape.features), (Some(128), None));
}

/// xfs_db is the judge of XFS.
#[test]
fn xfs_tells_how_it_was_made() {
    for (options, expected) in [
        (
            "-m rmapbt=1,bigtime=0 -i sparse=0,nrext64=0 -i size=1024",
            "crc finobt rmapbt reflink inobtcount ftype",
        ),
        ("-m reflink=0,inobtcount=0,finobt=0 -i nrext64=1", "crc ftype sparse bigtime nrext64"),
        ("-m crc=0 -n ftype=0 -b size=1024", ""),
        ("-m crc=0 -n ftype=1 -i size=256", "ftype"),
        ("-m crc=0 -n version=ci,ftype=0", "ascii-ci"),
        (
            "-m rmapbt=0,reflink=0,bigtime=0,inobtcount=0 -i nrext64=0 -n version=ci",
            "crc finobt ftype sparse ascii-ci",
        ),
    ] {
        let script = format!(
            "mkfs.xfs -q {options} \"$1\" >&2; xfs_db -r -c 'sb 0' -c 'p blocksize inodesize' \"$1\""
        );
        let (made, told) = made(FileSystemKind::Xfs, 400, &script);
        assert_eq!(features(&made).join(" "), expected, "{options}");
        let shape = made.shape;
        let found =
            format!("blocksize = {}\ninodesize = {}\n", shape.block_size.unwrap(), shape.inode_size.unwrap());
        assert_eq!(found, told, "{options}");
    }
}

#[test]
fn btrfs_tells_its_features_and_devices() {
    let (plain, _) =
        made(FileSystemKind::Btrfs, 200, "mkfs.btrfs -q -O ^no-holes -R ^free-space-tree \"$1\"");
    assert_eq!(features(&plain), ["extref", "skinny-metadata"]);
    assert_eq!(plain.shape.block_size, Some(4096));
    assert_eq!(plain.pool, Some(Pool { devices: 1 }));
    let (two, _) = made(
        FileSystemKind::Btrfs,
        200,
        "truncate -s 200M \"$1.2\"; mkfs.btrfs -q -n 4096 -O mixed-bg \"$1\" \"$1.2\"",
    );
    assert_eq!(features(&two), ["mixed-bg", "extref", "skinny-metadata", "no-holes", "free-space-tree"]);
    assert_eq!(two.pool, Some(Pool { devices: 2 }));
}

#[test]
fn fat_tells_its_bits_and_clusters() {
    for (megabytes, options, bits, cluster) in [
        (2, "-F 12", 12, 2048),
        (64, "-F 16 -s 4", 16, 2048),
        (64, "-F 32 -s 1", 32, 512),
        (300, "-F 32 -S 4096 -s 1", 32, 4096),
    ] {
        let script = format!("mkfs.vfat {options} \"$1\" && fsck.vfat -nv \"$1\"");
        let (made, told) = made(FileSystemKind::Vfat, megabytes, &script);
        assert_eq!((made.shape.fat_bits, made.shape.block_size), (Some(bits), Some(cluster)), "{options}");
        assert!(told.contains(&format!("{cluster} bytes per cluster")), "{told}");
    }
}

#[test]
fn what_is_no_superblock_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    for kind in [FileSystemKind::Ext4, FileSystemKind::Xfs, FileSystemKind::Btrfs, FileSystemKind::Vfat] {
        let error = read(kind, &image).unwrap_err().to_string();
        assert!(error.ends_with(&format!("no superblock of {kind} that ka can read")), "{error}");
    }
    File::create(&image).unwrap().set_len(100).unwrap();
    assert!(read(FileSystemKind::Ext4, &image).is_err());
}
