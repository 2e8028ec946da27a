//! Archives that must not be unpacked, and the errors that must be reported.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ka::archive::{ArchiveError, Encoder, Entry, Kind, Time, Xattr};
use ka_agent::unpack::{Options, UnpackError, unpack};

use super::snapshot::{assert_same, snapshot};
use super::{private_mount, room};

pub(crate) fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time { sec: 1_600_000_000, nsec: 5 },
        xattrs: Vec::new(),
        traits: ka::archive::Traits::default(),
        partition: None,
    }
}

pub(crate) fn file(path: &str) -> Entry {
    entry(path, Kind::File { size: 4, segments: None })
}

pub(crate) fn link(path: &str, target: &str) -> Entry {
    entry(path, Kind::HardLink { target: target.into() })
}

pub(crate) fn symbolic(path: &str, target: &Path) -> Entry {
    entry(path, Kind::Symlink { target: target.as_os_str().as_encoded_bytes().to_vec() })
}

/// An archive in which every file contains `data`.
pub(crate) fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    for entry in entries {
        encoder.entry(entry).unwrap();
        encoder.data(&b"data".repeat(usize::try_from(entry.data_len() / 4).unwrap())).unwrap();
    }
    encoder.finish().unwrap();
    bytes
}

pub(crate) fn attempt(entries: &[Entry], root: &Path) -> Result<(), UnpackError> {
    unpack(archive(entries).as_slice(), root, &Options { sync: false, ..Options::default() }).map(drop)
}

#[test]
fn nothing_leads_out() {
    let outside = room();
    fs::write(outside.path().join("secret"), b"mine").unwrap();
    fs::create_dir(outside.path().join("folder")).unwrap();
    let before = snapshot(outside.path());
    let out = outside.path();
    let absolute = out.join("new").display().to_string();
    let secret = out.join("secret").display().to_string();
    for entries in [
        vec![file("../new")],
        vec![file("a/../../new")],
        vec![file("./..")],
        vec![file(&absolute)],
        vec![entry("..", Kind::Directory)],
        vec![symbolic("way", out), file("way/new")],
        vec![symbolic("way", out), file("way/secret")],
        vec![symbolic("way", out), entry("way/folder", Kind::Directory)],
        vec![symbolic("way", out), entry("way/folder/deeper", Kind::Directory)],
        vec![symbolic("way", Path::new("..")), file("way/new")],
        vec![symbolic("way", out), link("mine", "way/secret")],
        vec![link("mine", "../secret")],
        vec![link("mine", &secret)],
        vec![symbolic("a", Path::new("b")), symbolic("b", out), file("a/new")],
        vec![entry("d", Kind::Directory), symbolic("d", out), file("d/new")],
        vec![file("plain"), file("plain/below")],
        vec![file(".")],
        vec![symbolic("./", out)],
    ] {
        let entries: Vec<_> = entries.into_iter().map(|e| Entry { path: trim(e.path), ..e }).collect();
        let inside = tempfile::tempdir_in(out.parent().unwrap()).unwrap();
        let error = attempt(&entries, inside.path()).unwrap_err();
        assert!(matches!(error, UnpackError::Refused { .. }), "{error}");
        assert_same(&before, &snapshot(out));
    }
}

fn trim(path: Vec<u8>) -> Vec<u8> {
    path.strip_suffix(b"/").map(<[u8]>::to_vec).unwrap_or(path)
}

/// A hard link to a symbolic link is another name of the link, never of its target; a directory replaces a
/// link, and does not follow it.
#[test]
fn links_that_are_there_are_not_followed() {
    let (outside, inside) = (room(), room());
    fs::write(outside.path().join("secret"), b"mine").unwrap();
    symlink(outside.path(), inside.path().join("way")).unwrap();
    symlink(outside.path().join("secret"), inside.path().join("file")).unwrap();
    let before = snapshot(outside.path());
    let entries = [
        entry("way", Kind::Directory),
        file("way/secret"),
        file("file"),
        symbolic("link", &outside.path().join("secret")),
        link("again", "link"),
    ];
    attempt(&entries, inside.path()).unwrap();
    assert_same(&before, &snapshot(outside.path()));
    assert_eq!(fs::read(inside.path().join("way/secret")).unwrap(), b"data");
    assert!(fs::symlink_metadata(inside.path().join("file")).unwrap().is_file());
    assert!(fs::symlink_metadata(inside.path().join("again")).unwrap().is_symlink());
}

#[test]
fn errors_name_the_path_and_the_reason() {
    let inside = room();
    fs::create_dir_all(inside.path().join("full/of")).unwrap();
    let long = "x".repeat(256);
    for (entries, told) in [
        (vec![link("a", "nowhere")], "cannot find the hard link's target nowhere: No such file"),
        (vec![link("a", "no/where")], "cannot open the directory no: No such file"),
        (vec![file("full")], "cannot replace full: Directory not empty"),
        (vec![file(&long)], "File name too long"),
        (vec![link("a", "full")], "cannot make the hard link a: Operation not permitted"),
    ] {
        let error = attempt(&entries, inside.path()).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    let error = attempt(&[], &inside.path().join("missing")).unwrap_err().to_string();
    assert!(error.contains("missing: No such file"), "{error}");
}

#[test]
fn a_stream_that_ends_early_is_an_error() {
    let bytes = archive(&[file("a"), file("b")]);
    for cut in [0, 300, 512, 513, 1024, bytes.len() - 1024, bytes.len() - 1] {
        let inside = room();
        let error = unpack(&bytes[..cut], inside.path(), &Options::default()).unwrap_err();
        let UnpackError::Archive(ArchiveError::Truncated { offset, .. }) = error else { panic!("{error}") };
        assert_eq!(offset, cut as u64);
    }
}

#[test]
fn a_full_disk_is_called_that() {
    let inside = room();
    let path = inside.path().to_owned();
    let error = private_mount("tmpfs", &path, "size=256k,nr_inodes=20", || {
        attempt(&[entry("large", Kind::File { size: 1 << 20, segments: None })], &path).unwrap_err()
    });
    assert!(matches!(error, UnpackError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("the disk is full: cannot write large"), "{error}");
    let many: Vec<_> = (0..40).map(|i| entry(&format!("d{i}"), Kind::Directory)).collect();
    let error =
        private_mount("tmpfs", &path, "size=256k,nr_inodes=20", || attempt(&many, &path).unwrap_err());
    assert!(matches!(error, UnpackError::DiskFull { .. }), "{error}");
}

/// An archive must not control the amount of memory that a receiver uses.
#[test]
fn attributes_of_directories_and_paths_have_a_budget() {
    let root = room();
    let directory =
        |n: u32, xattr: Xattr| Entry { xattrs: vec![xattr], ..entry(&format!("d{n}"), Kind::Directory) };
    let other = |n: u32| {
        let mut xattr = Xattr { name: b"user.large".to_vec(), value: vec![0; 1 << 20] };
        xattr.value[..4].copy_from_slice(&n.to_le_bytes());
        xattr
    };
    let many: Vec<Entry> = (0..100).map(|n| directory(n, other(n))).collect();
    let error = attempt(&many, root.path()).unwrap_err().to_string();
    assert!(error.contains("refused to unpack d6") && error.contains("too much memory"), "{error}");
    // A label shared by all files is stored once.
    let label = |n: u32| directory(n, Xattr { name: b"user.label".to_vec(), value: b"the same".to_vec() });
    let labelled: Vec<Entry> = (0..3000).map(label).collect();
    attempt(&labelled, room().path()).unwrap();
    // A deep tree is legitimate, up to a length.
    let deep = |levels: usize| [entry(&vec!["d"; levels].join("/"), Kind::Directory)];
    let error = attempt(&deep(200_000), root.path()).unwrap_err().to_string();
    assert!(error.contains("longer than 64 KiB") && error.len() < 500, "{error:.500}");
    attempt(&deep(3000), room().path()).unwrap();
    let long: Vec<Entry> = (0..1200)
        .map(|n| entry(&format!("{}{n}", format!("{}/", "x".repeat(250)).repeat(240)), Kind::Directory))
        .collect();
    let error = attempt(&long, room().path()).unwrap_err().to_string();
    assert!(error.contains("too much memory") && error.len() < 500, "{error:.500}");
}
