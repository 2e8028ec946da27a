//! Names that are equal if case is ignored: on FAT and exFAT, and below `chattr +F`. A virtual machine
//! provides such file systems, and runs the other tests of this file on them.
//!
//! Needs QEMU, Debian's kernel, and the tools of these file systems.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ka::archive::{Encoder, Entry, Flags, Kind, Time, Traits};
use ka::notes::NoteKind;
use ka_agent::unpack::{self, UnpackError, unpack};
use ka_tests::guest::{Guest, stage2_root};
use ka_tests::{kernel, succeed};

const MIB: u64 = 1 << 20;

/// The mounts in the machine, in the order of its disk's partitions.
const FOLDING: [(&str, &str); 3] =
    [("vfat", "mkfs.vfat -F 32"), ("exfat", "mkfs.exfat"), ("ext4", "mke2fs -qF -t ext4 -O casefold")];
const SIZE: u64 = 64;

#[test]
fn of_two_names_that_are_one_none_is_lost_in_silence() {
    let kernel = kernel::debian("linux-image-amd64");
    let folder = tempfile::tempdir().unwrap();
    let disk = make_disk(folder.path());
    let mut script = "#!/bin/sh
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs t /tmp
chroot /stage2 /bin/busybox mount -t proc p /proc
for module in virtio_pci virtio_blk; do /sbin/modprobe $module; done
until [ -b /dev/vda1 ]; do sleep 0.1; done
"
    .to_owned();
    for (number, (kind, _)) in FOLDING.iter().enumerate() {
        let node = format!("/dev/vda{}", number + 1);
        script += &format!("mkdir /{kind} && mount -t {kind} {node} /{kind} || echo NO {kind}\n");
    }
    script +=
        "tests --ignored --nocapture --test-threads 1 && echo ALL PASS\necho THAT IS ALL\npoweroff -f\n";
    let own = std::env::current_exe().unwrap();
    let initrd = stage2_root(&kernel, folder.path(), &script, &[(&own, "tests")]);
    let guest = Guest { kernel: &kernel.image, initrd: &initrd, words: "", memory: 2048, disk: Some(&disk) };
    let console = guest.boot("THAT IS ALL");
    assert!(console.contains("ALL PASS"), "{console}");
}

fn make_disk(folder: &Path) -> PathBuf {
    let disk = folder.join("disk");
    fs::File::create(&disk).unwrap().set_len((2 + FOLDING.len() as u64 * (SIZE + 1)) * MIB).unwrap();
    let mut table = "label: gpt\n".to_owned();
    for (number, (kind, maker)) in FOLDING.iter().enumerate() {
        let at = 1 + number as u64 * (SIZE + 1);
        table += &format!("start={at}MiB, size={SIZE}MiB\n");
        let image = folder.join(kind);
        fs::File::create(&image).unwrap().set_len(SIZE * MIB).unwrap();
        let (program, words) = maker.split_once(' ').unwrap_or((maker, ""));
        succeed(Command::new(program).args(words.split_whitespace()).arg(&image));
        let words =
            [format!("if={}", image.display()), format!("of={}", disk.display()), format!("seek={at}")];
        succeed(Command::new("dd").args(words).args(["bs=1M", "conv=notrunc,sparse", "status=none"]));
    }
    fs::write(folder.join("table"), table).unwrap();
    let sfdisk = "sfdisk -q --no-reread --no-tell-kernel --wipe never --wipe-partitions never \"$1\" <\"$2\"";
    succeed(Command::new("sh").args(["-c", sfdisk, "sh"]).args([&disk, &folder.join("table")]));
    disk
}

/// An archive of directories (with a trailing slash) and of files that contain their own paths.
fn archive(paths: &[&str], traits: Traits) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    for path in paths {
        let is_directory = path.ends_with('/');
        let size = path.len() as u64;
        let kind = if is_directory { Kind::Directory } else { Kind::File { size, segments: None } };
        encoder.entry(&entry(path.trim_end_matches('/'), kind, traits)).unwrap();
        if !is_directory {
            encoder.data(path.as_bytes()).unwrap();
        }
    }
    encoder.finish().unwrap();
    bytes
}

fn entry(path: &str, kind: Kind, traits: Traits) -> Entry {
    let traits = if kind == Kind::Directory { traits } else { Traits::default() };
    Entry {
        path: path.into(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time { sec: 1_000_000_000, nsec: 0 },
        xattrs: Vec::new(),
        traits,
        partition: None,
    }
}

/// Each file system that folds names, and its requirements for a directory.
fn places(name: &str) -> Vec<(PathBuf, Traits)> {
    let folding = Traits { flags: Flags::CASEFOLD, ..Traits::default() };
    FOLDING
        .iter()
        .map(|(kind, _)| {
            let at = Path::new("/").join(kind).join(name);
            fs::create_dir_all(&at).unwrap();
            (at, if *kind == "ext4" { folding } else { Traits::default() })
        })
        .collect()
}

fn tolerant(archive: &[u8], at: &Path) -> (u64, Vec<String>) {
    let options = unpack::Options { tolerant: true, ..unpack::Options::default() };
    let notes = unpack(archive, at, &options).unwrap().notes;
    let told = notes.first().iter().map(|note| format!("{note:?}")).collect();
    (notes.tally().count(NoteKind::EntryLost), told)
}

#[test]
#[ignore = "run by of_two_names_that_are_one_none_is_lost_in_silence, in a virtual machine"]
fn the_first_of_two_files_stays_and_the_other_is_counted() {
    for (at, traits) in places("files") {
        let bytes = archive(&["d/", "d/README", "d/other", "d/readme", "d/zz"], traits);
        let (lost, told) = tolerant(&bytes, &at);
        assert_eq!(lost, 1, "{at:?}: {told:?}");
        assert!(told.iter().any(|note| note.contains("readme") && note.contains("README")), "{told:?}");
        assert_eq!(fs::read(at.join("d/README")).unwrap(), b"d/README", "{at:?}");
        assert_eq!(fs::read(at.join("d/zz")).unwrap(), b"d/zz", "{at:?}");
        // Again: existing files are replaced, and one is still lost.
        let (lost, told) = tolerant(&bytes, &at);
        assert_eq!(lost, 1, "{at:?}: {told:?}");
        // Like on a clone: no copy is accepted as complete.
        let error = unpack(bytes.as_slice(), &at, &unpack::Options::default()).unwrap_err();
        assert!(matches!(error, UnpackError::Clash { .. }), "{at:?}: {error}");
        assert!(error.to_string().contains("d/readme and README"), "{at:?}: {error}");
    }
}

#[test]
#[ignore = "run by of_two_names_that_are_one_none_is_lost_in_silence, in a virtual machine"]
fn directories_are_not_merged() {
    for (at, traits) in places("directories") {
        let bytes = archive(&["d/", "d/Top/", "d/Top/x", "d/top/", "d/top/x", "d/top/y", "d/z"], traits);
        let (lost, told) = tolerant(&bytes, &at);
        assert_eq!(lost, 3, "{at:?}: {told:?}");
        assert_eq!(fs::read(at.join("d/Top/x")).unwrap(), b"d/Top/x", "{at:?}");
        assert!(!at.join("d/Top/y").exists() && at.join("d/z").exists(), "{at:?}");
    }
}

#[test]
#[ignore = "run by of_two_names_that_are_one_none_is_lost_in_silence, in a virtual machine"]
fn what_was_there_before_may_be_replaced() {
    for (at, traits) in places("before") {
        tolerant(&archive(&["d/", "d/Name"], traits), &at);
        let (lost, told) = tolerant(&archive(&["d/", "d/NAME", "d/x"], traits), &at);
        assert_eq!(lost, 0, "{at:?}: {told:?}");
        assert_eq!(fs::read(at.join("d/name")).unwrap(), b"d/NAME", "{at:?}");
    }
}

/// FAT also gives a long name a short one, through which another file must not replace it.
#[test]
#[ignore = "run by of_two_names_that_are_one_none_is_lost_in_silence, in a virtual machine"]
fn a_short_name_takes_no_other_file_away() {
    let at = Path::new("/vfat/short");
    fs::create_dir_all(at).unwrap();
    let bytes = archive(&["d/", "d/a long name.text", "d/ALONGN~1.TEX"], Traits::default());
    let (lost, told) = tolerant(&bytes, at);
    assert_eq!(lost, 1, "{told:?}");
    assert_eq!(fs::read(at.join("d/a long name.text")).unwrap(), b"d/a long name.text");
}

#[test]
#[ignore = "run by of_two_names_that_are_one_none_is_lost_in_silence, in a virtual machine"]
fn a_hard_link_to_what_is_lost_is_no_link_to_the_other() {
    let folding = Traits { flags: Flags::CASEFOLD, ..Traits::default() };
    let at = Path::new("/ext4/links");
    fs::create_dir_all(at).unwrap();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    encoder.entry(&entry("d", Kind::Directory, folding)).unwrap();
    for name in ["d/A", "d/a"] {
        encoder.entry(&entry(name, Kind::File { size: 3, segments: None }, folding)).unwrap();
        encoder.data(name.as_bytes()).unwrap();
    }
    for (name, target) in [("link", "d/a"), ("other", "d/A"), ("d/OTHER", "d/A"), ("d/other", "d/A")] {
        encoder.entry(&entry(name, Kind::HardLink { target: target.into() }, folding)).unwrap();
    }
    encoder.finish().unwrap();
    let (lost, told) = tolerant(&bytes, at);
    assert_eq!(lost, 3, "the file, the link to it, and the second name of one file: {told:?}");
    assert!(!at.join("link").exists());
    assert_eq!(fs::metadata(at.join("other")).unwrap().nlink(), 3);
}
