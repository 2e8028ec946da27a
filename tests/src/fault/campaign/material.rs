//! The data to send, and whether they have arrived.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::Advice;
use sha2::{Digest, Sha256};

use crate::sim::random::Random;
use crate::site::{MIB, Site};

/// The amount that is read back at once.
const PIECE: usize = 64 << 10;

/// A file of random bytes: several windows long, and not a multiple of any other size.
pub(super) fn file(site: &Site, seed: u64) -> PathBuf {
    let length = usize::try_from(Random::new(seed).between(17 << 20, 26 << 20)).unwrap_or(20 * MIB);
    site.noise("sent", length, seed)
}

/// A tree of small and large files, links and directories.
pub(super) fn tree(site: &Site, seed: u64) -> PathBuf {
    let mut random = Random::new(seed);
    let noise = fs::read(site.noise("noise", 6 * MIB, seed)).unwrap();
    let root = site.path("sent");
    let mut whole = 0;
    for i in 0.. {
        let directory = root.join(format!("d{}", i % 7));
        fs::create_dir_all(&directory).unwrap();
        let most = if i % 9 == 0 { 5 << 20 } else { 200 << 10 };
        let length = usize::try_from(random.between(0, most)).unwrap();
        let from = random.index(noise.len() - length);
        let path = directory.join(format!("f{i}"));
        fs::write(&path, &noise[from..from + length]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600 + u32::try_from(i % 8).unwrap()))
            .unwrap();
        whole += length;
        if whole > 18 * MIB {
            break;
        }
    }
    symlink("d0/f0", root.join("link")).unwrap();
    fs::hard_link(root.join("d0/f0"), root.join("hard")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    root
}

/// The state of a file or a tree: every name with its type, mode, length, and hash or target.
pub(super) type Look = BTreeMap<PathBuf, String>;

/// Reads the state; `None` if it cannot be read or does not exist.
pub(super) fn look(path: &Path) -> Option<Look> {
    let mut seen = Look::new();
    add(path, Path::new(""), &mut seen).ok()?;
    Some(seen)
}

fn add(root: &Path, below: &Path, seen: &mut Look) -> std::io::Result<()> {
    let path = if below.as_os_str().is_empty() { root.to_owned() } else { root.join(below) };
    let metadata = fs::symlink_metadata(&path)?;
    let said = if metadata.is_dir() {
        for entry in fs::read_dir(&path)? {
            let name = entry?.file_name();
            // Created by ext4 itself.
            if name != "lost+found" {
                add(root, &below.join(name), seen)?;
            }
        }
        if below.as_os_str().is_empty() { "root".to_owned() } else { format!("dir {:o}", metadata.mode()) }
    } else if metadata.is_symlink() {
        format!("link {}", fs::read_link(&path)?.display())
    } else {
        let sum = Sha256::digest(fs::read(&path)?);
        // Only a file's bytes are sent.
        let mode = if below.as_os_str().is_empty() { 0 } else { metadata.mode() };
        format!("file {mode:o} {} {sum:x?}", metadata.len())
    };
    seen.insert(below.to_owned(), said);
    Ok(())
}

/// The first names that differ, for a message.
pub(super) fn difference(wanted: &Look, got: Option<&Look>) -> String {
    let Some(got) = got else { return "it cannot be read".to_owned() };
    let short =
        |said: Option<&String>| said.map_or("nothing".to_owned(), |said| said.chars().take(40).collect());
    let names = wanted.keys().chain(got.keys().filter(|name| !wanted.contains_key(*name)));
    let differ: Vec<&PathBuf> = names.filter(|name| wanted.get(*name) != got.get(*name)).collect();
    let first = differ.first().map(|name| {
        format!("'{}' is {}, not {}", name.display(), short(got.get(*name)), short(wanted.get(*name)))
    });
    format!("{} of {} differ: {}", differ.len(), wanted.len(), first.unwrap_or_default())
}

/// The share of the pieces of `sent` that is missing from `copy`, after the page cache of `copy` was dropped.
pub(super) fn lost_share(sent: &Path, copy: &Path) -> f64 {
    let (mut all, mut lost) = (0, 0);
    compare(sent, copy, &mut |is_there| {
        all += 1;
        lost += u32::from(!is_there);
    });
    if all == 0 { 0.0 } else { f64::from(lost) / f64::from(all) }
}

fn compare(sent: &Path, copy: &Path, piece: &mut impl FnMut(bool)) {
    let metadata = fs::symlink_metadata(sent).unwrap();
    if metadata.is_dir() {
        for entry in fs::read_dir(sent).unwrap() {
            let name = entry.unwrap().file_name();
            compare(&sent.join(&name), &copy.join(&name), piece);
        }
    } else if metadata.is_file() {
        let there = File::open(copy).ok();
        if let Some(file) = &there {
            rustix::fs::fadvise(file, 0, None, Advice::DontNeed).unwrap();
        }
        for (i, wanted) in fs::read(sent).unwrap().chunks(PIECE).enumerate() {
            let mut found = vec![0; wanted.len()];
            let read = there.as_ref().map(|file| file.read_exact_at(&mut found, (i * PIECE) as u64));
            piece(matches!(read, Some(Ok(()))) && found == wanted);
        }
    }
}
