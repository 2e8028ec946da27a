//! Existing trees, several sources, and the limits of file systems.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ka::archive::{Entry, Kind, Progress, Xattr};
use ka_agent::unpack::{self, unpack};
use kactl::golden::chosen::Source;
use kactl::golden::pack::{self, PackError, pack, pack_dir};
use rustix::fs::{Mode, OFlags, XattrFlags};

use super::forest::acl;
use super::refusals::{archive, attempt, entry, file, link, symbolic};
use super::snapshot::{Snapshot, assert_same, snapshot};
use super::{packed, private_mount, room, unpacked};

fn small_tree(root: &Path) {
    fs::create_dir_all(root.join("etc/ssl")).unwrap();
    fs::create_dir_all(root.join("tmp/deep")).unwrap();
    fs::create_dir_all(root.join("home")).unwrap();
    fs::write(root.join("etc/passwd"), b"root").unwrap();
    fs::write(root.join("etc/ssl/key"), b"secret").unwrap();
    fs::write(root.join("tmp/deep/junk"), b"junk").unwrap();
    fs::write(root.join("swapfile"), b"swap").unwrap();
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
}

fn names(tree: &Snapshot) -> Vec<String> {
    tree.keys().map(|path| path.display().to_string()).collect()
}

fn pack_with(sources: &[(&Path, &str)], exclude: &[&str]) -> Result<(pack::Summary, Vec<u8>), PackError> {
    let source = |(directory, mount_point): &(&Path, &str)| Source {
        directory: PathBuf::from(directory),
        mount_point: PathBuf::from(mount_point),
    };
    let sources: Vec<_> = sources.iter().map(source).collect();
    let options =
        pack::Options { exclude: exclude.iter().map(PathBuf::from).collect(), ..Default::default() };
    let mut bytes = Vec::new();
    let summary = pack(&sources, &options, &mut bytes)?;
    Ok((summary, bytes))
}

#[test]
fn what_is_excluded_leaves_its_directory() {
    let (golden, copy) = (room(), room());
    small_tree(golden.path());
    let exclude = ["/tmp/", "/swapfile", "/etc//ssl/key", "/nowhere"];
    let (_, bytes) = pack_with(&[(golden.path(), "/")], &exclude).unwrap();
    unpacked(&bytes, copy.path());
    let mut expected = snapshot(golden.path());
    for gone in ["tmp/deep", "tmp/deep/junk", "swapfile", "etc/ssl/key"] {
        expected.remove(Path::new(gone)).unwrap();
    }
    assert_same(&expected, &snapshot(copy.path()));
    for bad in ["tmp", "/tmp/../etc", ""] {
        assert!(matches!(pack_with(&[(golden.path(), "/")], &[bad]), Err(PackError::BadPath(_))));
    }
}

/// Files hidden beneath a mount point do not belong to the machine's tree.
#[test]
fn each_source_is_at_its_mount_point() {
    let (root, home, data, copy) = (room(), room(), room(), room());
    small_tree(root.path());
    fs::write(root.path().join("home/hidden"), b"beneath the mount").unwrap();
    fs::write(home.path().join("file"), b"data").unwrap();
    fs::hard_link(home.path().join("file"), home.path().join("link")).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).unwrap();
    fs::create_dir(home.path().join("data")).unwrap();
    fs::write(data.path().join("x"), b"x").unwrap();
    let all = [(data.path(), "/home/data"), (home.path(), "home"), (root.path(), "/")];
    assert!(matches!(pack_with(&all, &[]), Err(PackError::BadPath(_))));
    let all = [(data.path(), "/home/data"), (home.path(), "/home"), (root.path(), "/")];
    let (_, bytes) = pack_with(&all, &[]).unwrap();
    unpacked(&bytes, copy.path());
    let tree = snapshot(copy.path());
    assert_eq!(
        names(&tree),
        [
            "",
            "etc",
            "etc/passwd",
            "etc/ssl",
            "etc/ssl/key",
            "home",
            "home/data",
            "home/data/x",
            "home/file",
            "home/link",
            "swapfile",
            "tmp",
            "tmp/deep",
            "tmp/deep/junk"
        ]
    );
    assert_eq!(tree[Path::new("home")].mode & 0o7777, 0o711);
    assert_eq!(tree[Path::new("home/link")].same_as, Path::new("home/file"));

    let (_, bytes) = pack_with(&all, &["/home", "/tmp", "/etc"]).unwrap();
    let copy = room();
    unpacked(&bytes, copy.path());
    assert_eq!(names(&snapshot(copy.path())), ["", "etc", "home", "swapfile", "tmp"]);

    let twice = [(root.path(), "/"), (home.path(), "/")];
    assert!(matches!(pack_with(&twice, &[]), Err(PackError::TwoSources(path)) if path == Path::new("/")));
}

#[test]
fn another_device_is_never_entered() {
    let (golden, copy) = (room(), room());
    small_tree(golden.path());
    let mount = golden.path().join("home");
    let (summary, bytes) = private_mount("tmpfs", &mount, "mode=750", || {
        fs::write(mount.join("elsewhere"), b"data").unwrap();
        pack_with(&[(golden.path(), "/")], &[]).unwrap()
    });
    let notes: Vec<_> = summary.notes.first().iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["./home: it is another mount, and its contents are left out"]);
    unpacked(&bytes, copy.path());
    let tree = snapshot(copy.path());
    assert_eq!(tree[Path::new("home")].mode & 0o7777, 0o750);
    assert!(!tree.contains_key(Path::new("home/elsewhere")));
}

#[test]
fn what_is_there_is_replaced_and_directories_are_kept() {
    let (golden, copy) = (room(), room());
    small_tree(golden.path());
    let (root, there) = (golden.path(), copy.path());
    std::os::unix::fs::symlink("passwd", root.join("etc/link")).unwrap();
    fs::create_dir_all(there.join("etc/passwd")).unwrap();
    fs::write(there.join("etc/own"), b"stays").unwrap();
    fs::write(there.join("tmp"), b"a file where a directory comes").unwrap();
    fs::write(there.join("etc/link"), b"a file where a link comes").unwrap();
    fs::write(there.join("other-name"), b"of the swap file").unwrap();
    fs::hard_link(there.join("other-name"), there.join("swapfile")).unwrap();
    let set = |path: &str, name: &str| {
        rustix::fs::lsetxattr(there.join(path), name, &acl(0o755, 5, 7), XattrFlags::empty()).unwrap();
    };
    // Attributes that a directory passes on to new files do not belong to the archive's files.
    set("etc", "system.posix_acl_default");
    set("etc", "system.posix_acl_access");
    unpacked(&packed(root), there);

    let mut tree = snapshot(there);
    assert_eq!(fs::read(there.join("other-name")).unwrap(), b"of the swap file");
    for own in ["etc/own", "other-name"] {
        tree.remove(Path::new(own)).unwrap();
    }
    assert_same(&snapshot(root), &tree);
}

#[test]
fn the_last_of_two_entries_counts() {
    let copy = room();
    let entries = [
        entry("d", Kind::Directory),
        Entry { mode: 0o500, ..entry("d", Kind::Directory) },
        file("d/f"),
        symbolic("d/f", Path::new("x")),
        entry("e", Kind::Directory),
        file("e"),
        link("e", "e"),
        file("made/for/it"),
    ];
    attempt(&entries, copy.path()).unwrap();
    let tree = snapshot(copy.path());
    assert_eq!(names(&tree), ["", "d", "d/f", "e", "made", "made/for", "made/for/it"]);
    assert_eq!(tree[Path::new("d")].mode & 0o7777, 0o500);
    assert_eq!(tree[Path::new("d/f")].kind, "symlink");
    assert_eq!(tree[Path::new("e")].kind, "file");
}

/// Deeper than the number of directories that the packer keeps open, and longer than the limit for a path.
#[test]
fn depth_has_no_limit() {
    let (golden, copy) = (room(), room());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(golden.path(), flags, Mode::empty()).unwrap();
    let name = "n".repeat(40);
    for _ in 0..200 {
        for sibling in ["a", "z"] {
            rustix::fs::mkdirat(&at, sibling, Mode::RWXU).unwrap();
        }
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &name, flags, Mode::empty()).unwrap();
    }
    let bytes = packed(golden.path());
    assert_eq!(unpacked(&bytes, copy.path()).entries, 601);
    assert!(packed(copy.path()) == bytes, "packed again it is not the same");
}

#[test]
fn blocks_that_were_never_written_stay_holes() {
    let (golden, copy) = (room(), room());
    let file = fs::File::create(golden.path().join("journal")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 4 << 20).unwrap();
    file.write_all_at(&[b'j'; 4096], 1 << 20).unwrap();
    file.sync_all().unwrap();
    let bytes = packed(golden.path());
    assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());
    unpacked(&bytes, copy.path());
    let copied = fs::metadata(copy.path().join("journal")).unwrap();
    assert_eq!(copied.len(), 4 << 20);
    assert!(copied.blocks() * 512 < 1 << 20);
    assert!(
        fs::read(copy.path().join("journal")).unwrap() == fs::read(golden.path().join("journal")).unwrap()
    );
}

#[test]
fn memory_is_a_file_system_too() {
    let golden = room();
    small_tree(golden.path());
    let sparse = fs::File::create(golden.path().join("sparse")).unwrap();
    sparse.write_all_at(b"data", 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    let set = |name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(golden.path().join("etc"), name, value, XattrFlags::empty()).unwrap();
    };
    set("trusted.kept", b"\0\n");
    set("system.posix_acl_default", &acl(0o755, 5, 7));
    let bytes = packed(golden.path());
    let mount = room();
    private_mount("tmpfs", mount.path(), "mode=700", || {
        unpacked(&bytes, mount.path());
        assert_same(&snapshot(golden.path()), &snapshot(mount.path()));
        assert!(packed(mount.path()) == bytes, "packed again it is not the same");
    });
}

#[test]
fn attributes_that_a_file_system_cannot_hold_are_noted() {
    let mount = room();
    let xattrs = vec![Xattr { name: b"user.lost".to_vec(), value: b"1".to_vec() }];
    let many = (0..1200).map(|i| Entry { xattrs: xattrs.clone(), ..entry(&format!("{i}"), Kind::Directory) });
    let bytes = archive(&many.collect::<Vec<_>>());
    let notes = private_mount("ramfs", mount.path(), "", || unpacked(&bytes, mount.path()).notes);
    let told = notes.first()[0].to_string();
    assert_eq!(told, "999: the attribute user.lost is left out: its file system cannot hold it");
    assert_eq!((notes.first().len(), notes.omitted()), (1000, 200));
}

/// As on a running host whose receiver is not root.
#[test]
fn without_owners_no_file_gets_anothers_powers() {
    let copy = room();
    let xattrs = vec![Xattr { name: b"user.kept".to_vec(), value: b"1".to_vec() }];
    let entries = [
        Entry { uid: 1000, gid: 1000, mode: 0o6755, xattrs, ..file("tool") },
        Entry { uid: 1000, gid: 1000, mode: 0o2750, ..entry("d", Kind::Directory) },
    ];
    let options = unpack::Options { same_owner: false, sync: false, ..unpack::Options::default() };
    unpack(archive(&entries).as_slice(), copy.path(), &options).unwrap();
    let tree = snapshot(copy.path());
    let (tool, directory) = (&tree[Path::new("tool")], &tree[Path::new("d")]);
    assert_eq!((tool.owner, tool.mode & 0o7777), ((0, 0), 0o755));
    assert_eq!((directory.owner, directory.mode & 0o7777), ((0, 0), 0o2750));
    assert_eq!(tool.xattrs["user.kept"], "1");
}

#[test]
fn both_sides_tell_how_far_they_are() {
    let (golden, copy) = (room(), room());
    small_tree(golden.path());
    let (there, here) = (Arc::new(Progress::default()), Arc::new(Progress::default()));
    let mut bytes = Vec::new();
    let options = pack::Options { progress: Some(Arc::clone(&there)), ..Default::default() };
    let packed = pack_dir(golden.path(), &options, &mut bytes).unwrap();
    let options = unpack::Options { progress: Some(Arc::clone(&here)), ..Default::default() };
    let unpacked = unpack(bytes.as_slice(), copy.path(), &options).unwrap();
    assert_eq!((there.entries(), there.bytes()), (packed.entries, packed.bytes));
    assert_eq!((here.entries(), here.bytes()), (unpacked.entries, unpacked.bytes));
    assert_eq!(packed.entries, 10);
    assert_eq!(packed.entries, unpacked.entries);
}
