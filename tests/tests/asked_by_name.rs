//! Modules that the kernel asks for by a name, so that no dependency leads to them. A virtual machine with the modules
//! of stage2 mounts a file system with every feature that ka recreates; the kernel has to find the rest by itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use ka_tests::guest::Guest;
use ka_tests::{kernel, root, static_agent, succeed};

const MIB: u64 = 1 << 20;

/// A file system: what it is called here, its type, the command that makes it, the options that it is mounted with,
/// and its size in MiB.
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

/// Every feature that `agent/src/disk/mkfs/features.rs` sets, and every option of fstab that needs a module.
const ALL: [Made; 18] = [
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
    made("swap", "swap", "mkswap -q", "", 16),
];

/// One disk with a partition for each.
fn make_disk(folder: &Path) -> std::path::PathBuf {
    let disk = folder.join("disk");
    let total = 2 + ALL.iter().map(|made| made.size + 1).sum::<u64>();
    fs::File::create(&disk).expect("a temporary file").set_len(total * MIB).expect("a sparse file");
    let mut table = "label: gpt\n".to_owned();
    let mut at = 1;
    for made in &ALL {
        table += &format!("start={}MiB, size={}MiB\n", at, made.size);
        let image = folder.join(made.name);
        fs::File::create(&image).expect("a temporary file").set_len(made.size * MIB).expect("a sparse file");
        let (program, words) = made.maker.split_once(' ').expect("a program with options");
        succeed(Command::new(program).args(words.split(' ')).arg(&image));
        let seek = format!("seek={at}");
        succeed(
            Command::new("dd")
                .arg(format!("if={}", image.display()))
                .arg(format!("of={}", disk.display()))
                .args(["bs=1M", &seek, "conv=notrunc,sparse", "status=none"]),
        );
        fs::remove_file(&image).expect("it is there");
        at += made.size + 1;
    }
    fs::write(folder.join("table"), table).expect("a temporary file");
    let sfdisk = "sfdisk -q --no-reread --no-tell-kernel --wipe never --wipe-partitions never \"$1\" <\"$2\"";
    succeed(Command::new("sh").args(["-c", sfdisk, "sh"]).args([&disk, &folder.join("table")]));
    disk
}

/// What the machine does. Only the disk's own driver is loaded by hand, as ka loads it.
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
    script + "echo ALL WERE TRIED\npoweroff -f\n"
}

/// The first root: stage1 as far as it matters here (the kernel's modprobe, which looks in stage2), and stage2.
fn make_root(kernel: &kernel::Kernel, folder: &Path) -> std::path::PathBuf {
    let tree = folder.join("tree");
    fs::create_dir(&tree).expect("a temporary directory");
    let mut make = Command::new(root().join("initramfs/make-stage2"));
    succeed(make.args([&kernel.modules, Path::new("/"), &static_agent(), &tree.join("stage2")]));
    let rest = "cd \"$1\"; mkdir bin sbin dev proc sys; cp stage2/bin/busybox bin; cp \"$2\" sbin/modprobe
        for tool in sh mount umount chroot mkdir sleep sync dmesg tail swapon poweroff; do ln -s busybox bin/$tool; done
        mknod dev/console c 5 1; chmod 755 sbin/modprobe init";
    fs::write(tree.join("init"), script()).expect("a temporary file");
    succeed(
        Command::new("sh")
            .args(["-euc", rest, "sh"])
            .arg(&tree)
            .arg(root().join("initramfs/stage1-modprobe")),
    );
    let pack = "cd \"$1\" && find . -print0 | cpio -0 --quiet -H newc -o | zstd -q -3 >\"$2\"";
    let initrd = folder.join("initrd");
    succeed(Command::new("sh").args(["-euc", pack, "sh"]).args([&tree, &initrd]));
    initrd
}

#[test]
fn every_file_system_that_ka_recreates_can_be_mounted_with_the_modules_of_stage2() {
    let kernel = kernel::debian("linux-image-amd64");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (disk, initrd) = (make_disk(folder.path()), make_root(&kernel, folder.path()));
    let guest = Guest { kernel: &kernel.image, initrd: &initrd, words: "", memory: 1536, disk: Some(&disk) };
    let console = guest.boot("ALL WERE TRIED");
    let failing: Vec<_> = ALL
        .iter()
        .filter(|made| !console.contains(&format!("MADE {} works", made.name)))
        .map(|m| m.name)
        .collect();
    assert!(failing.is_empty(), "cannot be mounted: {failing:?}\n{console}");
}
