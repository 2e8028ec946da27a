//! The state of a tree, as seen by a walk that is independent of tar: by paths and `std::fs`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use sha2::{Digest, Sha256};

/// Everything that must be preserved, by path below the tree's root.
pub(crate) type Snapshot = BTreeMap<PathBuf, Seen>;

/// The state of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    pub(crate) size: u64,
    pub(crate) hash: String,
    pub(crate) target: Option<PathBuf>,
    pub(crate) device: u64,
    /// The first path of the same file.
    pub(crate) same_as: PathBuf,
    /// Escaped, so that a difference is readable.
    pub(crate) xattrs: BTreeMap<String, String>,
    /// The offset and end of each data segment.
    pub(crate) data: Vec<(u64, u64)>,
}

pub(crate) fn snapshot(root: &Path) -> Snapshot {
    let mut all = Snapshot::new();
    let mut files = BTreeMap::new();
    look(root, Path::new(""), &mut all, &mut files);
    all
}

fn look(root: &Path, below: &Path, all: &mut Snapshot, files: &mut BTreeMap<(u64, u64), PathBuf>) {
    let path = root.join(below);
    let meta = fs::symlink_metadata(&path).unwrap();
    let kind = meta.file_type();
    let same_as = if kind.is_dir() {
        below.to_owned()
    } else {
        files.entry((meta.dev(), meta.ino())).or_insert_with(|| below.to_owned()).clone()
    };
    let regular = kind.is_file();
    // Before anything is read: preallocated space that is in the page cache counts as data.
    let data = if regular { data(&path, meta.len()) } else { Vec::new() };
    let seen = Seen {
        kind: match kind {
            k if k.is_dir() => "directory",
            k if k.is_symlink() => "symlink",
            k if k.is_fifo() => "fifo",
            k if k.is_char_device() => "char",
            k if k.is_block_device() => "block",
            k if k.is_socket() => "socket",
            _ => "file",
        },
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        size: if regular { meta.len() } else { 0 },
        hash: if regular && meta.len() < 1 << 30 { hash(&path) } else { String::new() },
        target: kind.is_symlink().then(|| fs::read_link(&path).unwrap()),
        device: meta.rdev(),
        same_as,
        xattrs: xattrs(&path),
        data,
    };
    all.insert(below.to_owned(), seen);
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            look(root, &below.join(name), all, files);
        }
    }
}

fn hash(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|b| format!("{b:02x}")).collect()
}

fn xattrs(path: &Path) -> BTreeMap<String, String> {
    let mut names = vec![0; 64 << 10];
    let len = match rustix::fs::llistxattr(path, names.as_mut_slice()) {
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        len => len.unwrap(),
    };
    let names = names[..len].split(|&b| b == 0).filter(|n| !n.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let len = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
        value[..len].escape_ascii().to_string()
    };
    names.map(|name| (name.escape_ascii().to_string(), value(name))).collect()
}

fn data(path: &Path, size: u64) -> Vec<(u64, u64)> {
    let file = fs::File::open(path).unwrap();
    let (mut parts, mut end) = (Vec::new(), 0);
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(end)) {
        end = rustix::fs::seek(&file, SeekFrom::Hole(start)).unwrap().min(size);
        parts.push((start, end));
    }
    parts
}

/// Panics with the differences of the first few files that differ.
#[track_caller]
pub(crate) fn assert_same(golden: &Snapshot, copy: &Snapshot) {
    let mut different = Vec::new();
    for path in golden.keys().chain(copy.keys().filter(|p| !golden.contains_key(*p))) {
        let lines = |tree: &Snapshot| format!("{:#?}", tree.get(path));
        let (a, b) = (lines(golden), lines(copy));
        if golden.get(path) != copy.get(path) {
            different.push(path.as_os_str().as_bytes().escape_ascii().to_string());
            different
                .extend(a.lines().filter(|l| !b.lines().any(|m| m == *l)).map(|l| format!("  golden {l}")));
            different
                .extend(b.lines().filter(|l| !a.lines().any(|m| m == *l)).map(|l| format!("  copy   {l}")));
        }
    }
    different.truncate(20);
    assert!(different.is_empty(), "the trees differ:\n{}", different.join("\n"));
}
