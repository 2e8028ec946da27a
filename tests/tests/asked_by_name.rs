//! Modules that the kernel requests by name, so that no dependency leads to them. A virtual machine with the
//! modules of stage2 mounts a file system with every feature that ka recreates; the kernel has to find the
//! remaining modules by itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use ka_tests::guest::{Guest, stage2_root};
use ka_tests::{kernel, root, succeed};

const MIB: u64 = 1 << 20;

/// A file system: its name here, its type, the command that creates it, its mount options, and its size in
/// MiB.
struct Made {
    name: &'static str,
    kind: &'static str,
    maker: &'static str,
    options: &'static str,
    size: u64,
}

const fn made(
    name: &'static str,
    kind: &'static str,
    maker: &'static str,
    options: &'static str,
    size: u64,
) -> Made {
    Made { name, kind, maker, options, size }
}

/// Every feature that `agent/src/disk/mkfs/features.rs` sets, every fstab option that needs a module, and the
/// file systems of partitions that are copied byte by byte.
const ALL: [Made; 22] = [
    made("ext2", "ext2", "mke2fs -qF -t ext2", "defaults", 16),
    made("ext3", "ext3", "mke2fs -qF -t ext3", "defaults", 16),
    made(
        "ext4-quota",
        "ext4",
        "mke2fs -qF -t ext4 -O quota,project,metadata_csum,64bit,metadata_csum_seed,orphan_file -E quotatype=usrquota:grpquota:prjquota",
        "usrquota,grpquota,prjquota",
        32,
    ),
    made(
        "ext4-casefold",
        "ext4",
        "mke2fs -qF -t ext4 -O casefold,encrypt,verity,stable_inodes,inline_data,ea_inode,large_dir,fast_commit,mmp -b 4096 -E encoding=utf8",
        "defaults",
        32,
    ),
    made(
        "ext4-bigalloc",
        "ext4",
        "mke2fs -qF -t ext4 -O bigalloc,sparse_super2,^resize_inode -C 65536",
        "defaults",
        64,
    ),
    made(
        "ext4-meta_bg",
        "ext4",
        "mke2fs -qF -t ext4 -O meta_bg,^resize_inode,uninit_bg,^metadata_csum",
        "defaults",
        32,
    ),
    made(
        "xfs",
        "xfs",
        "mkfs.xfs -qf -m crc=1,finobt=1,rmapbt=1,reflink=1,inobtcount=1,bigtime=1 -i sparse=1,nrext64=0",
        "uquota,gquota,pquota",
        320,
    ),
    made("xfs-old", "xfs", "mkfs.xfs -qf -m crc=0,finobt=0 -n version=ci", "uquota", 320),
    made(
        "btrfs-crc32c",
        "btrfs",
        "mkfs.btrfs -qf --csum crc32c -O no-holes -R free-space-tree",
        "compress=zlib",
        160,
    ),
    made("btrfs-xxhash", "btrfs", "mkfs.btrfs -qf --csum xxhash", "compress=lzo", 160),
    made("btrfs-sha256", "btrfs", "mkfs.btrfs -qf --csum sha256 -M", "compress=zstd", 160),
    made("btrfs-blake2", "btrfs", "mkfs.btrfs -qf --csum blake2 -R quota", "compress-force=zstd:9", 160),
    made("fat12", "vfat", "mkfs.vfat -F 12", "umask=0077", 4),
    made("fat32", "vfat", "mkfs.vfat -F 32", "codepage=437,iocharset=ascii,utf8", 64),
    made("fat-latin", "vfat", "mkfs.vfat -F 16", "codepage=850,iocharset=iso8859-15", 32),
    made("jfs", "jfs", "mkfs.jfs -q", "iocharset=utf8", 32),
    made("reiserfs", "reiserfs", "mkfs.reiserfs -qff", "acl,user_xattr", 64),
    made("f2fs-zstd", "f2fs", F2FS, "compress_algorithm=zstd,compress_extension=*", 128),
    made("f2fs-lz4", "f2fs", F2FS, "compress_algorithm=lz4,compress_extension=*", 128),
    made("f2fs-lzo", "f2fs", F2FS, "compress_algorithm=lzo-rle,compress_extension=*", 128),
    made("exfat", "exfat", "mkfs.exfat -L exfat", "iocharset=utf8", 32),
    made("swap", "swap", "mkswap -q", "", 16),
];

const F2FS: &str = "mkfs.f2fs -q -f -O extra_attr,inode_checksum,sb_checksum,compression,encrypt,verity,quota,casefold -C utf8:strict";

/// squashfs's compression methods; each needs a module of its own, or one of the kernel's common ones.
const SQUASHED: [&str; 5] = ["gzip", "lzo", "lz4", "xz", "zstd"];

/// One disk with one partition for each.
fn make_disk(folder: &Path) -> std::path::PathBuf {
    let disk = folder.join("disk");
    let total = 2 + ALL.iter().map(|made| made.size + 1).sum::<u64>() + 2 * SQUASHED.len() as u64;
    fs::File::create(&disk).expect("a temporary file").set_len(total * MIB).expect("a sparse file");
    let mut table = "label: gpt\n".to_owned();
    let mut at = 1;
    for made in &ALL {
        table += &format!("start={}MiB, size={}MiB\n", at, made.size);
        let image = folder.join(made.name);
        fs::File::create(&image).expect("a temporary file").set_len(made.size * MIB).expect("a sparse file");
        let (program, words) = made.maker.split_once(' ').expect("a program with options");
        succeed(Command::new(program).args(words.split(' ')).arg(&image));
        put(&image, &disk, at);
        at += made.size + 1;
    }
    let license = root().join("LICENSE-MIT");
    for kind in SQUASHED {
        table += &format!("start={at}MiB, size=1MiB\n");
        let image = folder.join(kind);
        succeed(Command::new("mksquashfs").arg(&license).arg(&image).args([
            "-quiet",
            "-no-progress",
            "-comp",
            kind,
        ]));
        put(&image, &disk, at);
        at += 2;
    }
    fs::write(folder.join("table"), table).expect("a temporary file");
    let sfdisk = "sfdisk -q --no-reread --no-tell-kernel --wipe never --wipe-partitions never \"$1\" <\"$2\"";
    succeed(Command::new("sh").args(["-c", sfdisk, "sh"]).args([&disk, &folder.join("table")]));
    disk
}

/// Moves an image onto the disk, this many MiB from its start.
fn put(image: &Path, disk: &Path, at: u64) {
    let (from, to, seek) =
        (format!("if={}", image.display()), format!("of={}", disk.display()), format!("seek={at}"));
    succeed(Command::new("dd").args([&from, &to, "bs=1M", &seek, "conv=notrunc,sparse", "status=none"]));
    fs::remove_file(image).expect("it is there");
}

/// The machine's script. Only the disk's own driver is loaded by hand, as ka loads it.
fn script() -> String {
    let mut script = "#!/bin/sh
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
chroot /stage2 /bin/busybox mount -t proc p /proc
for module in virtio_pci virtio_blk; do /sbin/modprobe $module; done
until [ -b /dev/vda1 ]; do sleep 0.1; done
mkdir /new
try() {
    if mount -t $2 -o $3 $4 /new && echo something >/new/file && sync && umount /new; then echo \"MADE $1 works\"
    else echo \"MADE $1 FAILS\"; dmesg | tail -n 5; fi
}
"
    .to_owned();
    for (number, made) in ALL.iter().enumerate() {
        let device = format!("/dev/vda{}", number + 1);
        script += &match made.kind {
            "swap" => format!("swapon {device} && echo MADE swap works\n"),
            kind => format!("try {} {kind} {} {device}\n", made.name, made.options),
        };
    }
    for (number, kind) in SQUASHED.iter().enumerate() {
        let device = format!("/dev/vda{}", ALL.len() + number + 1);
        script += &format!(
            "mount -t squashfs {device} /new && cat /new/* >/dev/null && umount /new && echo MADE squashfs-{kind} works\n"
        );
    }
    let casefold = ALL.iter().position(|made| made.name == "ext4-casefold").map_or(0, |at| at + 1);
    script += &format!("mount -t ext4 /dev/vda{casefold} /new && ciphers /new; umount /new\n");
    script + "echo ALL WERE TRIED\npoweroff -f\n"
}

/// The modes of fscrypt, for contents and for names (linux/fscrypt.h), as `ciphers.c` tries them. No kernel
/// of Debian 12 has HCTR2 or SM4.
const ENCRYPTED: [&str; 3] = ["1-4", "5-6", "9-9"];

/// Creates an encrypted directory for each mode, and a file in it.
const CIPHERS: &str = r#"
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

struct specifier { uint32_t type, reserved; uint8_t identifier[32]; };
struct add_key { struct specifier spec; uint32_t size, id, reserved[8]; uint8_t raw[64]; };
struct policy { uint8_t version, contents, names, flags, reserved[4], identifier[16]; };

static int try(const char *at, int contents, int names)
{
    char folder[64], file[96], text[] = "something";
    struct add_key key = { .spec.type = 2, .size = 64 };
    memset(key.raw, contents, sizeof key.raw);
    int top = open(at, O_RDONLY);
    if (ioctl(top, _IOWR('f', 23, char[80]), &key)) return perror("add the key"), 1;
    snprintf(folder, sizeof folder, "%s/%d-%d", at, contents, names);
    snprintf(file, sizeof file, "%s/file", folder);
    mkdir(folder, 0700);
    struct policy policy = { .version = 2, .contents = contents, .names = names, .flags = 3 };
    memcpy(policy.identifier, key.spec.identifier, 16);
    int directory = open(folder, O_RDONLY);
    if (ioctl(directory, _IOR('f', 19, char[12]), &policy)) return perror("set the policy"), 1;
    int new = open(file, O_RDWR | O_CREAT, 0600);
    if (new < 0) return perror("make a file"), 1;
    if (write(new, text, sizeof text) != sizeof text || fsync(new)) return perror("write"), 1;
    printf("MADE fscrypt-%d-%d works\n", contents, names);
    return 0;
}

int main(int count, char **words)
{
    static const int modes[][2] = { {1, 4}, {5, 6}, {9, 9} };
    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++)
        if (try(words[count - 1], modes[i][0], modes[i][1])) printf("fscrypt-%d-%d FAILS\n", modes[i][0], modes[i][1]);
}
"#;

#[test]
fn every_file_system_that_ka_recreates_can_be_mounted_with_the_modules_of_stage2() {
    let kernel = kernel::debian("linux-image-amd64");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let ciphers = folder.path().join("ciphers");
    fs::write(folder.path().join("ciphers.c"), CIPHERS).expect("a temporary file");
    succeed(
        Command::new("musl-gcc").args(["-static", "-o"]).arg(&ciphers).arg(folder.path().join("ciphers.c")),
    );
    let (disk, initrd) =
        (make_disk(folder.path()), stage2_root(&kernel, folder.path(), &script(), &[(&ciphers, "ciphers")]));
    let guest = Guest { kernel: &kernel.image, initrd: &initrd, words: "", memory: 1536, disk: Some(&disk) };
    let console = guest.boot("ALL WERE TRIED");
    let failing: Vec<_> = ALL
        .iter()
        .filter(|made| !console.contains(&format!("MADE {} works", made.name)))
        .map(|m| m.name)
        .collect();
    assert!(failing.is_empty(), "cannot be mounted: {failing:?}\n{console}");
    let others = SQUASHED.map(|kind| format!("squashfs-{kind}"));
    let others = others.into_iter().chain(ENCRYPTED.map(|mode| format!("fscrypt-{mode}")));
    let failing: Vec<_> = others.filter(|name| !console.contains(&format!("MADE {name} works"))).collect();
    assert!(failing.is_empty(), "cannot be used: {failing:?}\n{console}");
}
