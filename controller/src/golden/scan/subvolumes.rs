//! The subvolumes of a mounted btrfs, and where their files are visible.
//!
//! A subvolume may be mounted separately, or be visible in a directory of a mounted subvolume. Otherwise it
//! is out of reach. A snapshot that is not mounted is not part of the system: copied as files it would take
//! its whole size again.

use super::mounted::VisibleMount;
use ka_host::mountinfo::DeviceNumber;
use ka_host::tool::{self, End};
use rustix::fs::{AtFlags, CWD, statat};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// The time limit for `btrfs` to list subvolumes.
const LIMIT: Duration = Duration::from_secs(60);
/// The number of the top-level subvolume of every btrfs.
pub const TOP: u64 = 5;
/// The inode number of every subvolume's own directory.
const ROOT_INODE: u64 = 256;

/// A subvolume of a golden btrfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenSubvolume {
    /// Its path from the top of the file system; empty for the top itself.
    pub path: String,
    /// Its own mount point, if it is mounted separately.
    pub mount_point: Option<PathBuf>,
    /// Where its files are visible, if anywhere.
    pub files: Option<Files>,
    /// It is a snapshot of another subvolume.
    pub snapshot: bool,
    /// It is the default subvolume.
    pub default: bool,
    /// Its number.
    pub id: u64,
}

/// Where files are visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// A mount point.
    pub mounted_at: PathBuf,
    /// The directory below it; empty for the mount point itself.
    pub below: PathBuf,
    /// The device number of the files.
    pub device: DeviceNumber,
}

impl Files {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        // Joining an empty path would add a trailing slash.
        if self.below.as_os_str().is_empty() {
            self.mounted_at.clone()
        } else {
            self.mounted_at.join(&self.below)
        }
    }
}

/// The subvolumes of the btrfs that is mounted at these mount points, outer ones first.
///
/// # Errors
/// `btrfs` is missing or fails.
pub(super) fn find(places: &[VisibleMount]) -> io::Result<Vec<GoldenSubvolume>> {
    // The others are directories that are mounted a second time.
    let whole: Vec<&VisibleMount> = places
        .iter()
        .filter(|place| std::fs::metadata(&place.at).is_ok_and(|found| found.ino() == ROOT_INODE))
        .collect();
    let Some(first) = whole.first() else { return Ok(Vec::new()) };
    let own = number(&btrfs(&["inspect-internal", "rootid"], &first.at)?)?;
    let default = btrfs(&["subvolume", "get-default"], &first.at)?;
    let default = number(default.strip_prefix("ID ").unwrap_or(&default))?;
    let all = list(&btrfs(&["subvolume", "list", "-pq"], &first.at)?, own, &first.root)?;
    Ok(locate(&all, default, &whole, look))
}

/// Runs `btrfs` on a mount point.
fn btrfs(arguments: &[&str], at: &Path) -> io::Result<String> {
    let mut command = Command::new("btrfs");
    command.args(arguments).arg(at).stdin(Stdio::null());
    let called = || format!("btrfs {} {}", arguments.join(" "), at.display());
    let output = tool::output(&mut command, LIMIT).map_err(|e| {
        io::Error::new(e.kind(), format!("cannot start `{}` (of btrfs-progs): {e}", called()))
    })?;
    if output.end != End::Exited(ExitStatus::default()) {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{}: {}: {}", called(), output.end, said.trim())));
    }
    String::from_utf8(output.stdout).map_err(|_| unclear("a name that is not UTF-8"))
}

fn unclear(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("btrfs printed {what}"))
}

/// The number at the beginning of a line.
fn number(text: &str) -> io::Result<u64> {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.parse().map_err(|_| unclear(&format!("`{}` where a subvolume's number was expected", text.trim())))
}

/// A subvolume as listed by `btrfs subvolume list`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    id: u64,
    parent: u64,
    snapshot: bool,
    /// Relative to the top.
    path: String,
}

/// Parses lines of `ID n gen n parent n top level n parent_uuid (-|UUID) path PATH`. Paths are relative to
/// the top, but those inside the mounted subvolume, `own`, are relative to that; `root` is its path.
fn list(text: &str, own: u64, root: &Path) -> io::Result<Vec<Listed>> {
    let mut all = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let read = || {
            let (facts, path) = line.split_once(" path ")?;
            let words: Vec<&str> = facts.split_whitespace().collect();
            let behind = |key| words.iter().skip_while(|word| **word != key).nth(1).copied();
            let number = |key| behind(key)?.parse().ok();
            let snapshot = behind("parent_uuid")? != "-";
            Some(Listed { id: number("ID")?, parent: number("parent")?, snapshot, path: path.to_owned() })
        };
        all.push(read().ok_or_else(|| unclear(&format!("`{line}` where a subvolume was expected")))?);
    }
    let parents: BTreeMap<u64, u64> = all.iter().map(|listed| (listed.id, listed.parent)).collect();
    let root = root.to_str().unwrap_or_default().trim_start_matches('/');
    for listed in all.iter_mut().filter(|listed| own != TOP && is_within(listed.parent, own, &parents)) {
        listed.path = format!("{root}/{}", listed.path);
    }
    Ok(all)
}

fn is_within(mut id: u64, own: u64, parents: &BTreeMap<u64, u64>) -> bool {
    // No chain of parents is longer than the number of subvolumes.
    for _ in 0..=parents.len() {
        if id == own {
            return true;
        }
        let Some(parent) = parents.get(&id) else { return false };
        id = *parent;
    }
    false
}

/// Finds where the files of each subvolume, and of the top, are visible. `look` returns the device number of
/// the files of the subvolume that is in a directory below a mount point, if there is one.
fn locate(
    all: &[Listed],
    default: u64,
    places: &[&VisibleMount],
    look: impl Fn(&Path, &Path) -> Option<DeviceNumber>,
) -> Vec<GoldenSubvolume> {
    let top = Listed { id: TOP, parent: 0, snapshot: false, path: String::new() };
    let mut found: Vec<GoldenSubvolume> = Vec::new();
    let mut sorted: Vec<&Listed> = std::iter::once(&top).chain(all).collect();
    sorted.sort_by_key(|listed| (Path::new(&listed.path).components().count(), &listed.path));
    for listed in sorted {
        let path = Path::new("/").join(&listed.path);
        let mounted = places.iter().find(|place| place.root == path);
        let files = match mounted {
            Some(place) => {
                Some(Files { mounted_at: place.at.clone(), below: PathBuf::new(), device: place.device })
            }
            None => {
                let around = places.iter().filter(|place| path.starts_with(&place.root));
                around.max_by_key(|place| place.root.components().count()).and_then(|place| {
                    let below = path.strip_prefix(&place.root).ok()?.to_owned();
                    let device = look(&place.at, &below)?;
                    Some(Files { mounted_at: place.at.clone(), below, device })
                })
            }
        };
        found.push(GoldenSubvolume {
            path: listed.path.clone(),
            mount_point: mounted.map(|place| place.at.clone()),
            files,
            snapshot: listed.snapshot,
            default: listed.id == default,
            id: listed.id,
        });
    }
    found
}

/// Looks past everything else that is mounted there.
fn look(mounted_at: &Path, below: &Path) -> Option<DeviceNumber> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, mounted_at, flags).ok()?;
    let stat = statat(&mount, below, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    (stat.st_ino == ROOT_INODE).then(|| DeviceNumber::of(stat.st_dev))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\
ID 256 gen 7 parent 5 top level 5 parent_uuid -                                    path @
ID 257 gen 8 parent 5 top level 5 parent_uuid -                                    path @home
ID 258 gen 7 parent 256 top level 256 parent_uuid -                                    path var/lib path x
ID 259 gen 7 parent 258 top level 258 parent_uuid -                                    path var/lib path x/deep
ID 260 gen 7 parent 256 top level 256 parent_uuid 6df38492-c8b5-5d44-93ba-4db3fd0047b2 path .snapshots/1
";

    fn place(at: &str, root: &str, minor: u32) -> VisibleMount {
        VisibleMount { at: at.into(), root: root.into(), device: DeviceNumber { major: 0, minor } }
    }

    #[test]
    fn paths_are_told_from_the_top() {
        let all = list(LISTED, 256, Path::new("/@")).unwrap();
        let paths: Vec<&str> = all.iter().map(|listed| listed.path.as_str()).collect();
        assert_eq!(paths, ["@", "@home", "@/var/lib path x", "@/var/lib path x/deep", "@/.snapshots/1"]);
        assert_eq!(all.iter().filter(|listed| listed.snapshot).count(), 1);
        let from_top = list(LISTED, TOP, Path::new("/")).unwrap();
        assert_eq!(from_top[2].path, "var/lib path x");
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for line in ["ERROR: no", "ID x gen 7 parent 5 parent_uuid - path @", "ID 5 gen 7 path @"] {
            let error = list(line, 5, Path::new("/")).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
        assert_eq!(number("256 gen 1").unwrap(), 256);
        assert!(number("FS_TREE").is_err());
    }

    #[test]
    fn files_are_where_the_subvolume_or_one_around_it_is_mounted() {
        let all = list(LISTED, 256, Path::new("/@")).unwrap();
        let (root, home) = (place("/", "/@", 42), place("/home", "/@home", 43));
        let device = DeviceNumber { major: 0, minor: 50 };
        let found = locate(&all, 256, &[&root, &home], |at, below| {
            assert_eq!(at, Path::new("/"));
            (below != Path::new(".snapshots/1")).then_some(device)
        });
        let told: Vec<_> = found
            .iter()
            .map(|s| {
                let files =
                    s.files.as_ref().map(|f| (f.mounted_at.to_str().unwrap(), f.below.to_str().unwrap()));
                (s.path.as_str(), s.mount_point.as_ref().map(|p| p.to_str().unwrap()), files, s.default)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("", None, None, false),
                ("@", Some("/"), Some(("/", "")), true),
                ("@home", Some("/home"), Some(("/home", "")), false),
                ("@/.snapshots/1", None, None, false),
                ("@/var/lib path x", None, Some(("/", "var/lib path x")), false),
                ("@/var/lib path x/deep", None, Some(("/", "var/lib path x/deep")), false),
            ]
        );
    }
}
