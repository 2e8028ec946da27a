//! Attributes of an inode other than mode, owner, times and extended attributes, and those that a file system
//! cannot hold: through packer and unpacker from one file system to another, judged by lsattr, xfs_io, GNU
//! tar and bsdtar.
//!
//! Needs root, loop devices, and the tools of ext4, XFS and btrfs.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use ka::archive::Notes;
use ka::notes::NoteKind;
use ka_agent::unpack::{self, unpack};
use ka_tests::loop_device::{Loop, MIB};
use ka_tests::tool::{run, tool};
use kactl::golden::pack::{self, pack_dir};

/// A file system on its own disk.
struct Mounted {
    at: PathBuf,
    _folder: tempfile::TempDir,
    _disk: Loop,
}

impl Mounted {
    fn new(disk: Loop, mkfs: &[&str], options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("fs");
        fs::create_dir(&at).unwrap();
        run(mkfs[0], mkfs[1..].iter().copied().chain([disk.node()]));
        run("mount", ["-o", options, disk.node(), at.to_str().unwrap()]);
        Self { at, _folder: folder, _disk: disk }
    }

    fn path(&self, name: &str) -> String {
        self.at.join(name).to_str().unwrap().to_owned()
    }

    /// Flags and projects of everything, as lsattr prints them, by path.
    fn flags(&self) -> String {
        let text = tool("lsattr", ["-R", "-a", "-p", self.at.to_str().unwrap()]);
        // Flags that describe how a file is stored are irrelevant to a copy.
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| line.contains('/') && !line.ends_with(':') && !line.ends_with("/.."))
            .map(|line| {
                let (words, path) = line.split_once(" /").map_or((line, ""), |(words, path)| (words, path));
                let words = words.replace(['e', 'I', 'N'], "-");
                format!("{words} {}", path.replacen(self.at.to_str().unwrap().trim_start_matches('/'), "", 1))
            })
            .filter(|line| !line.contains("lost+found"))
            .collect();
        lines.sort();
        lines.join("\n")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("chattr").args(["-R", "-f", "-i", "-a"]).arg(&self.at).output();
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

fn packed(directory: &Path, options: &pack::Options) -> (Vec<u8>, Notes) {
    let mut bytes = Vec::new();
    let summary = pack_dir(directory, options, &mut bytes).unwrap();
    (bytes, summary.notes)
}

fn unpacked(archive: &[u8], at: &Path) -> Notes {
    let options = unpack::Options { tolerant: true, ..unpack::Options::default() };
    unpack(archive, at, &options).unwrap().notes
}

fn counts(notes: &Notes) -> Vec<(&'static str, u64)> {
    notes.tally().iter().map(|(kind, counted)| (kind.name(), counted.count)).collect()
}

const EXT4: [&str; 5] = ["mkfs.ext4", "-q", "-F", "-O", "ea_inode"];

/// A tree with every flag of ext4, and names that can be created only before anything is immutable.
fn plant(on: &Mounted) {
    for (name, flags) in [
        ("immutable", "+i"),
        ("append", "+a"),
        ("no-atime", "+A"),
        ("no-dump", "+d"),
        ("sync", "+S"),
        ("all", "+AdSia"),
    ] {
        fs::write(on.path(name), name).unwrap();
        fs::hard_link(on.path(name), on.path(&format!("zz-{name}"))).unwrap();
        run("chattr", [flags, &on.path(name)]);
    }
    for (name, flags) in [("dir-sync", "+D"), ("top", "+T"), ("sealed", "+i"), ("inherits", "+Sd")] {
        fs::create_dir(on.path(name)).unwrap();
        fs::write(on.path(&format!("{name}/plain")), "x").unwrap();
        run("chattr", [flags, &on.path(name)]);
    }
    fs::write(on.path("inherits/later"), "x").unwrap();
}

#[test]
fn flags_arrive() {
    let disk = Loop::new(64 * MIB, 512);
    let other = disk.another(64 * MIB, 512);
    let (golden, clone) = (Mounted::new(disk, &EXT4, "defaults"), Mounted::new(other, &EXT4, "defaults"));
    plant(&golden);
    let (archive, notes) = packed(&golden.at, &pack::Options::default());
    assert_eq!(counts(&notes), []);
    // Twice: the second time everything exists, and much of it is immutable.
    assert_eq!(counts(&unpacked(&archive, &clone.at)), []);
    assert_eq!(clone.flags(), golden.flags());
    let again = unpacked(&archive, &clone.at);
    assert_eq!(clone.flags(), golden.flags());
    assert!(counts(&again).iter().all(|(kind, _)| *kind == "immutable_replaced"), "{:?}", again.first());
    assert_eq!(fs::metadata(clone.path("immutable")).unwrap().nlink(), 2);
}

#[test]
fn other_tars_read_the_records_or_pass_over_them() {
    let disk = Loop::new(64 * MIB, 512);
    let other = disk.another(64 * MIB, 512);
    let (golden, clone) = (Mounted::new(disk, &EXT4, "defaults"), Mounted::new(other, &EXT4, "defaults"));
    plant(&golden);
    let (archive, _) = packed(&golden.at, &pack::Options::default());
    let file = clone.path("archive.tar");
    let feed = |program: &str, arguments: &[&str], into: &str| {
        fs::create_dir(clone.path(into)).unwrap();
        let output = Command::new(program)
            .args(arguments)
            .args(["-C", &clone.path(into), "-xpf", &file])
            .stdin(Stdio::null())
            .output()
            .expect(program);
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    fs::write(&file, &archive).unwrap();
    feed("tar", &["--xattrs"], "gnu");
    assert_eq!(fs::read(clone.path("gnu/immutable")).unwrap(), b"immutable");
    feed("bsdtar", &["--fflags"], "bsd");
    let flags =
        tool("lsattr", &[clone.path("bsd/immutable"), clone.path("bsd/append"), clone.path("bsd/no-dump")]);
    let words: Vec<String> =
        flags.lines().map(|line| line.split(' ').next().unwrap().replace(['-', 'e'], "")).collect();
    assert_eq!(words, ["i", "a", "d"], "{flags}");
    // bsdtar's own archive keeps its flags in our unpacker, too.
    let theirs = clone.path("theirs.tar");
    run(
        "bsdtar",
        ["--format", "pax", "-C", golden.at.to_str().unwrap(), "-cf", &theirs, "immutable", "no-atime"],
    );
    fs::create_dir(clone.path("ours")).unwrap();
    unpacked(&fs::read(&theirs).unwrap(), &clone.at.join("ours"));
    let flags = tool("lsattr", &[clone.path("ours/immutable"), clone.path("ours/no-atime")]);
    assert!(
        flags.lines().next().unwrap().contains('i') && flags.lines().nth(1).unwrap().contains('A'),
        "{flags}"
    );
}

#[test]
fn copy_on_write_and_compression_are_set_on_empty_files() {
    let disk = Loop::new(256 * MIB, 512);
    let other = disk.another(256 * MIB, 512);
    let mkfs = ["mkfs.btrfs", "-q", "-f"];
    let (golden, clone) = (Mounted::new(disk, &mkfs, "defaults"), Mounted::new(other, &mkfs, "defaults"));
    fs::create_dir(golden.path("images")).unwrap();
    run("chattr", ["+C", &golden.path("images")]);
    fs::write(golden.path("images/disk"), vec![3; 1_000_000]).unwrap();
    fs::write(golden.path("cow"), "x").unwrap();
    // It was created elsewhere: in the directory, but without the directory's flag.
    fs::rename(golden.path("cow"), golden.path("images/cow")).unwrap();
    for (name, flag) in [("small", "+c"), ("large", "+m"), ("plain", "-c")] {
        fs::write(golden.path(name), "").unwrap();
        run("chattr", [flag, &golden.path(name)]);
        fs::write(golden.path(name), vec![5; 1_000_000]).unwrap();
    }
    fs::write(golden.path("zstd"), "").unwrap();
    run("btrfs", ["property", "set", &golden.path("zstd"), "compression", "zstd"]);
    run("sync", ["-f", golden.at.to_str().unwrap()]);
    let (archive, _) = packed(&golden.at, &pack::Options::default());
    assert_eq!(counts(&unpacked(&archive, &clone.at)), []);
    assert_eq!(clone.flags(), golden.flags());
    assert!(clone.flags().lines().any(|line| line.contains('C') && line.ends_with("images/disk")));
    let property = tool("btrfs", ["property", "get", &clone.path("zstd"), "compression"]);
    assert!(property.contains("zstd"), "{property}");
    let used = |on: &Mounted, name: &str| {
        let text = tool("filefrag", ["-v", &on.path(name)]);
        text.contains("encoded")
    };
    run("sync", ["-f", clone.at.to_str().unwrap()]);
    assert!(used(&clone, "small"), "compressed as it was written");
    // ext4 holds none of these: each file has one note, and the files arrive.
    let small = Mounted::new(golden._disk.another(64 * MIB, 512), &EXT4, "defaults");
    let notes = unpacked(&archive, &small.at);
    assert!(notes.tally().count(NoteKind::InodeFlagLost) >= 3, "{:?}", notes.first());
    assert_eq!(notes.tally().count(NoteKind::EntryLost), 0);
    assert_eq!(fs::metadata(small.path("images/disk")).unwrap().len(), 1_000_000);
}

#[test]
fn xfs_keeps_its_wishes_for_extents_and_projects() {
    let disk = Loop::new(400 * MIB, 512);
    let other = disk.another(400 * MIB, 512);
    let mkfs = ["mkfs.xfs", "-q", "-f"];
    let (golden, clone) = (Mounted::new(disk, &mkfs, "defaults"), Mounted::new(other, &mkfs, "defaults"));
    fs::create_dir(golden.path("large")).unwrap();
    run("xfs_io", ["-c", "extsize 1m", "-c", "chproj 4242", "-c", "chattr +P", &golden.path("large")]);
    fs::write(golden.path("large/file"), vec![1; 70_000]).unwrap();
    fs::hard_link(golden.path("large/file"), golden.path("large/file-too")).unwrap();
    // A file of another project, with a second name where none could be created today.
    fs::write(golden.path("large/other"), "x").unwrap();
    run("xfs_io", ["-c", "chproj 77", &golden.path("large/other")]);
    run("xfs_io", ["-c", "chattr -P", &golden.path("large")]);
    fs::hard_link(golden.path("large/other"), golden.path("large/zz-other")).unwrap();
    run("xfs_io", ["-c", "chattr +P", &golden.path("large")]);
    fs::write(golden.path("own"), "").unwrap();
    run("xfs_io", ["-c", "extsize 64k", "-c", "cowextsize 128k", "-c", "chattr +f", &golden.path("own")]);
    fs::write(golden.path("own"), vec![1; 70_000]).unwrap();
    let (archive, _) = packed(&golden.at, &pack::Options::default());
    assert_eq!(counts(&unpacked(&archive, &clone.at)), []);
    let told = |on: &Mounted| {
        ["large", "large/file", "large/zz-other", "own"].map(|name| {
            let text = tool(
                "xfs_io",
                ["-r", "-c", "extsize", "-c", "cowextsize", "-c", "lsproj", "-c", "lsattr", &on.path(name)],
            );
            text.replace(on.at.to_str().unwrap(), "")
        })
    };
    assert_eq!(told(&clone), told(&golden));
    assert!(told(&clone)[1].contains("projid = 4242"), "{:?}", told(&clone));
    assert!(told(&clone)[2].contains("projid = 77"), "{:?}", told(&clone));
    // ext4 without projects holds none of this: each has a note, and the files arrive.
    let small = Mounted::new(golden._disk.another(64 * MIB, 512), &EXT4, "defaults");
    let notes = unpacked(&archive, &small.at);
    assert!(notes.first().iter().any(|note| note.what.contains("project 4242")), "{:?}", notes.first());
    assert_eq!(notes.tally().count(NoteKind::EntryLost), 0);
}

#[test]
fn more_attributes_than_a_mebibyte_arrive() {
    for mkfs in [&["mkfs.xfs", "-q", "-f"][..], &EXT4] {
        many_attributes_arrive(mkfs);
    }
}

fn many_attributes_arrive(mkfs: &[&str]) {
    let disk = Loop::new(400 * MIB, 512);
    let other = disk.another(400 * MIB, 512);
    let (golden, clone) = (Mounted::new(disk, mkfs, "defaults"), Mounted::new(other, mkfs, "defaults"));
    let set = |file: &str, name: String, value: &[u8]| {
        rustix::fs::setxattr(golden.at.join(file), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    fs::write(golden.path("many"), "x").unwrap();
    for number in 0..20 {
        set("many", format!("user.{number}"), &vec![number; 65_000]);
    }
    let is_xfs = mkfs[0] == "mkfs.xfs";
    if is_xfs {
        fs::write(golden.path("too-many"), "x").unwrap();
        // The names alone exceed what the kernel lists.
        for number in 0..400 {
            set("too-many", format!("user.{number:0>200}"), b"");
        }
    }
    let (archive, notes) = packed(&golden.at, &pack::Options::default());
    let lost = if is_xfs { vec![("attribute_lost", 1)] } else { Vec::new() };
    assert_eq!(counts(&notes), lost, "{:?}", notes.first());
    assert_eq!(counts(&unpacked(&archive, &clone.at)), []);
    let hash = |on: &Mounted| {
        let script = "getfattr -d -e hex --absolute-names \"$0\" | tail -n +2 | sha256sum";
        tool("sh", ["-c", script, &on.path("many")])
    };
    assert_eq!(hash(&clone), hash(&golden));
    assert_eq!(clone.at.join("too-many").exists(), is_xfs);
}

/// Attributes that a file system cannot hold are counted, and the rest arrives.
#[test]
fn what_cannot_be_held_is_left_out_and_counted() {
    let disk = Loop::new(64 * MIB, 512);
    let other = disk.another(400 * MIB, 512);
    let third = disk.another(64 * MIB, 512);
    let golden = Mounted::new(disk, &EXT4, "defaults");
    let xfs = Mounted::new(other, &["mkfs.xfs", "-q", "-f"], "defaults");
    let old = Mounted::new(third, &["mkfs.ext2", "-q", "-F", "-I", "128"], "defaults");
    run("mknod", [golden.path("device").as_str(), "b", "259", "1048575"]);
    fs::write(golden.path("late"), "x").unwrap();
    run("touch", ["-d", "2100-01-01 00:00:00.5 UTC", &golden.path("late")]);
    fs::write(golden.path("now"), "x").unwrap();
    run("touch", ["-d", "2001-01-01 00:00:00.5 UTC", &golden.path("now")]);
    fs::write(golden.path("rest"), "x").unwrap();
    run("touch", ["-d", "2001-01-01 00:00:00 UTC", &golden.path("rest"), golden.at.to_str().unwrap()]);
    fs::remove_dir(golden.path("lost+found")).unwrap();
    run("touch", ["-d", "2001-01-01 00:00:00 UTC", golden.at.to_str().unwrap()]);
    run("touch", ["-h", "-d", "2001-01-01 00:00:00 UTC", &golden.path("device")]);
    let (archive, _) = packed(&golden.at, &pack::Options::default());
    let notes = unpacked(&archive, &xfs.at);
    assert_eq!(counts(&notes), [("entry_lost", 1)], "{:?}", notes.first());
    assert_eq!(fs::read(xfs.path("rest")).unwrap(), b"x");
    // Without tolerance, as on a clone, it is an error.
    let error = unpack(archive.as_slice(), &xfs.at, &unpack::Options::default()).unwrap_err();
    assert!(error.to_string().contains("device"), "{error}");
    let notes = unpacked(&archive, &old.at);
    assert_eq!(counts(&notes), [("time_lost", 2)], "{:?}", notes.first());
}

#[test]
fn more_links_than_a_file_system_takes_are_counted() {
    let disk = Loop::new(400 * MIB, 512);
    let other = disk.another(64 * MIB, 512);
    let golden = Mounted::new(disk, &["mkfs.xfs", "-q", "-f"], "defaults");
    let small = Mounted::new(other, &EXT4, "defaults");
    fs::write(golden.path("000000"), "x").unwrap();
    for number in 1..65_003 {
        fs::hard_link(golden.path("000000"), golden.path(&format!("{number:06}"))).unwrap();
    }
    let (archive, _) = packed(&golden.at, &pack::Options::default());
    let notes = unpacked(&archive, &small.at);
    assert_eq!(counts(&notes), [("entry_lost", 3)], "{:?}", notes.first());
    assert_eq!(fs::metadata(small.path("000000")).unwrap().nlink(), 65_000);
}

/// An immutable file, and one in an immutable directory without an entry in the archive, are not fatal.
#[test]
fn immutable_files_of_the_receiver_are_replaced() {
    let disk = Loop::new(64 * MIB, 512);
    let there = Mounted::new(disk, &EXT4, "defaults");
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("folder")).unwrap();
    for name in ["one", "folder/two", "folder/three"] {
        fs::write(source.path().join(name), "new").unwrap();
    }
    fs::create_dir(there.path("folder")).unwrap();
    for name in ["one", "folder/two"] {
        fs::write(there.path(name), "old").unwrap();
    }
    run("chattr", ["+i", &there.path("one"), &there.path("folder/two"), &there.path("folder")]);
    let listed = source.path().join("list.tar");
    run(
        "tar",
        [
            "-C",
            source.path().to_str().unwrap(),
            "-cf",
            listed.to_str().unwrap(),
            "one",
            "folder/two",
            "folder/three",
        ],
    );
    let notes = unpacked(&fs::read(&listed).unwrap(), &there.at);
    assert_eq!(counts(&notes), [("immutable_replaced", 2)], "{:?}", notes.first());
    for name in ["one", "folder/two", "folder/three"] {
        assert_eq!(fs::read(there.path(name)).unwrap(), b"new");
    }
    // The directory is unchanged.
    assert!(tool("lsattr", ["-d", &there.path("folder")]).split(' ').next().unwrap().contains('i'));
}

/// Files that the finish of a clone changes become immutable only afterwards.
#[test]
fn a_clone_is_sealed_at_its_end() {
    let disk = Loop::new(64 * MIB, 512);
    let other = disk.another(64 * MIB, 512);
    let (golden, clone) = (Mounted::new(disk, &EXT4, "defaults"), Mounted::new(other, &EXT4, "defaults"));
    plant(&golden);
    let (archive, _) = packed(&golden.at, &pack::Options::default());
    let sealed = Arc::new(unpack::Sealed::default());
    let options = unpack::Options { sealed: Some(Arc::clone(&sealed)), ..unpack::Options::default() };
    unpack(archive.as_slice(), &clone.at, &options).unwrap();
    fs::write(clone.path("immutable"), "changed").unwrap();
    fs::remove_file(clone.path("append")).unwrap();
    fs::remove_file(clone.path("zz-append")).unwrap();
    assert_eq!(unpack::seal(&clone.at, &sealed).unwrap().first(), []);
    assert!(fs::write(clone.path("immutable"), "again").is_err());
    assert!(fs::write(clone.path("sealed/new"), "again").is_err());
}

#[test]
fn mounts_and_subvolumes_are_treated_alike() {
    let disk = Loop::new(256 * MIB, 512);
    let other = disk.another(64 * MIB, 512);
    let third = disk.another(64 * MIB, 512);
    let golden = Mounted::new(disk, &["mkfs.btrfs", "-q", "-f"], "defaults");
    fs::create_dir(golden.path("mounted")).unwrap();
    run("btrfs", ["-q", "subvolume", "create", &golden.path("nested")]);
    fs::write(golden.path("nested/inside"), "x").unwrap();
    fs::write(golden.path("bound"), "").unwrap();
    fs::write(golden.path("file"), "x").unwrap();
    let inner = Mounted::new(other, &EXT4, "defaults");
    fs::write(inner.path("inside"), "y").unwrap();
    run("mount", ["--bind", inner.at.to_str().unwrap(), &golden.path("mounted")]);
    run("mount", ["--bind", &inner.path("inside"), &golden.path("bound")]);
    // On the same file system, and so with the same device number; and a device on a file.
    for name in ["folder", "again"] {
        fs::create_dir(golden.path(name)).unwrap();
    }
    fs::write(golden.path("folder/inside"), "x").unwrap();
    run("mount", ["--bind", &golden.path("folder"), &golden.path("again")]);
    for (source, name) in [(golden.path("file"), "file-again"), ("/dev/null".to_owned(), "null")] {
        fs::write(golden.path(name), "").unwrap();
        run("mount", ["--bind", &source, &golden.path(name)]);
    }
    let tolerant = pack::Options { tolerant: true, ..pack::Options::default() };
    let alike = packed(&golden.at, &tolerant);
    let crossed = packed(&golden.at, &pack::Options { cross: true, ..tolerant.clone() });
    run("umount", &["mounted", "bound", "again", "file-again", "null"].map(|name| golden.path(name)));
    assert_eq!(counts(&alike.1), [("mount_left_out", 6)], "{:?}", alike.1.first());
    assert_eq!(counts(&crossed.1), [], "{:?}", crossed.1.first());
    let clone = Mounted::new(third, &EXT4, "defaults");
    for (archive, inside) in [(&alike.0, false), (&crossed.0, true)] {
        unpacked(archive, &clone.at);
        for name in ["nested/inside", "mounted/inside", "again/inside", "bound", "file-again", "null"] {
            assert_eq!(clone.at.join(name).exists(), inside, "{name}");
        }
        for name in ["nested", "mounted", "again", "folder"] {
            assert!(clone.at.join(name).is_dir(), "{name}");
        }
        assert_eq!(fs::read(clone.path("folder/inside")).unwrap(), b"x");
        assert_eq!(fs::read(clone.path("file")).unwrap(), b"x");
    }
}
