//! A tree through our packer, our unpacker and GNU tar, in every pairing, and archives that must be rejected.
//!
//! The tests run as root, because owners, devices and `trusted.*` attributes require root.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod edges;
mod forest;
mod live;
mod partitions;
mod refusals;
mod snapshot;

use std::fs;
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};

use ka_agent::unpack::{self, unpack};
use kactl::golden::pack::{self, pack_dir};
use proptest::prelude::*;
use tempfile::TempDir;

use forest::{forest, grow};
use snapshot::{assert_same, snapshot};

/// An empty directory, accessible only to root.
fn room() -> TempDir {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests make devices and set owners: run them as root"
    );
    tempfile::tempdir().unwrap()
}

/// Our archive of a directory.
fn packed(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let summary = pack_dir(directory, &pack::Options::default(), &mut bytes).unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    assert_eq!(summary.notes.first(), []);
    bytes
}

fn unpacked(archive: &[u8], directory: &Path) -> unpack::Summary {
    let options = unpack::Options { sync: false, ..unpack::Options::default() };
    let summary = unpack(archive, directory, &options).unwrap();
    assert_eq!(summary.bytes, archive.len() as u64);
    summary
}

/// GNU tar's archive of a directory.
fn tarred(directory: &Path, options: &[&str]) -> Vec<u8> {
    let mut command = Command::new("tar");
    command.args(["--numeric-owner", "-C"]).arg(directory).args(options).args(["-cf", "-", "."]);
    let output = command.output().expect("GNU tar is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

const FULL: [&str; 5] = ["--format=posix", "-S", "--xattrs", "--xattrs-include=*", "--acls"];

/// The result of unpacking an archive with GNU tar.
fn untarred(archive: &[u8], directory: &Path) {
    let mut child = Command::new("tar")
        .args(["-xp", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-f", "-", "-C"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("GNU tar is needed");
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut stdin, archive).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}

/// Runs `work` while an in-memory file system is mounted on `directory`, invisible to other processes.
fn private_mount<T: Send>(kind: &str, directory: &Path, options: &str, work: impl FnOnce() -> T + Send) -> T {
    use nix::mount::{MsFlags, mount};
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // A mount namespace belongs to a thread, and ends with it.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some(kind), directory, Some(kind), MsFlags::empty(), Some(options)).unwrap();
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn our_archive_unpacks_to_the_same_tree(plants in forest(60)) {
        let (golden, copy) = (room(), room());
        grow(golden.path(), &plants, true);
        let archive = packed(golden.path());
        let summary = unpacked(&archive, copy.path());
        prop_assert_eq!(summary.notes.first(), []);
        assert_same(&snapshot(golden.path()), &snapshot(copy.path()));
        prop_assert!(packed(copy.path()) == archive, "packed again it is not the same");
    }

    #[test]
    fn gnu_tars_archive_unpacks_to_the_same_tree(plants in forest(60)) {
        let (golden, copy) = (room(), room());
        grow(golden.path(), &plants, false);
        unpacked(&tarred(golden.path(), &FULL), copy.path());
        assert_same(&snapshot(golden.path()), &snapshot(copy.path()));
    }

    #[test]
    fn gnu_tar_unpacks_our_archive_to_the_same_tree(plants in forest(60)) {
        let (golden, copy) = (room(), room());
        grow(golden.path(), &plants, true);
        untarred(&packed(golden.path()), copy.path());
        assert_same(&snapshot(golden.path()), &snapshot(copy.path()));
    }
}

/// Formats that cannot express everything get what they can express.
#[test]
fn every_format_of_gnu_tar_is_read() {
    let golden = room();
    let root = golden.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/file"), b"data").unwrap();
    fs::hard_link(root.join("a/file"), root.join("a/b/link")).unwrap();
    std::os::unix::fs::symlink("../file", root.join("a/b/symlink")).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    for i in 0..60 {
        // More segments than the headers of GNU's old format can hold.
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[b's'; 4096], i * 40960).unwrap();
    }
    sparse.set_len(60 * 40960 + 100_000).unwrap();
    let long = "x".repeat(90);
    let short = |dir: &Path, format: &str| {
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
            last_modification: rustix::fs::Timespec { tv_sec: 1_500_000_000, tv_nsec: 0 },
        };
        for path in snapshot(dir).keys() {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(rustix::fs::CWD, dir.join(path), &times, flags).unwrap();
        }
        let copy = room();
        let options: Vec<_> = format.split(' ').collect();
        unpacked(&tarred(dir, &options), copy.path());
        assert_same(&snapshot(dir), &snapshot(copy.path()));
    };
    for format in [
        "--format=gnu -S",
        "--format=oldgnu -S",
        "--format=posix --sparse-version=0.0 -S",
        "--format=posix --sparse-version=0.1 -S",
        "--format=posix --sparse-version=1.0 -S",
    ] {
        short(root, format);
    }
    fs::remove_file(root.join("sparse")).unwrap();
    short(root, "--format=v7");
    fs::create_dir_all(root.join(&long)).unwrap();
    fs::write(root.join(&long).join(&long[..60]), b"a name that ustar cuts in two").unwrap();
    short(root, "--format=ustar");
    fs::create_dir_all(root.join(&long).join(&long).join(&long)).unwrap();
    std::os::unix::fs::symlink(format!("{long}/{long}"), root.join(&long).join(&long).join("link")).unwrap();
    short(root, "--format=gnu");
    short(root, "--format=posix");
}

/// The file is never read: its header is sufficient.
#[test]
fn gnu_tar_and_we_agree_on_files_beyond_8_gib() {
    use ka::archive::{Decoder, Encoder, Entry, Kind, Time};
    let golden = room();
    let size = (9 << 30) + 1;
    fs::File::create(golden.path().join("large")).unwrap().set_len(size).unwrap();
    let mut child = Command::new("tar")
        .args(["--format=posix", "-cf", "-", "large"])
        .current_dir(golden.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let kind = Kind::File { size, segments: None };
    let entry = Decoder::new(BufReader::new(child.stdout.take().unwrap())).next_entry().unwrap().unwrap();
    // The reader is gone, so the writer ends.
    child.wait().unwrap();
    assert_eq!(entry.kind, kind);

    let entry = Entry {
        path: b"large".to_vec(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
        traits: ka::archive::Traits::default(),
        partition: None,
    };
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes).entry(&entry).unwrap();
    let head = golden.path().join("head.tar");
    fs::write(&head, bytes).unwrap();
    let listed = Command::new("tar").arg("-tvf").arg(&head).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&size.to_string()), "{listed:?}");
}
