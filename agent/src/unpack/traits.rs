//! Inode flags, projects, and similar attributes: when they are set, and what happens if they cannot be.
//!
//! Some work only on an empty file or directory: `+C` (btrfs), `+F` (ext4), extent sizes (XFS), compression.
//! A directory gets its project before anything is created in it, because links and devices can only inherit
//! theirs. `+i` and `+a` are set when nothing follows: such a file does not even accept another hard link.

use std::os::fd::BorrowedFd;

use ka::archive::{Flags, Notes, Traits};
use ka::notes::NoteKind;
use nix::errno::Errno;

use ka_host::sys::inode;

/// The flags that make a file immutable, and so are set last.
pub(super) const LAST: Flags = Flags::IMMUTABLE.or(Flags::APPEND);

/// The flags that work only on an empty file.
const FIRST: Flags = Flags::NO_COW
    .or(Flags::COMPRESS)
    .or(Flags::NO_COMPRESS)
    .or(Flags::EXTENT_SIZE)
    .or(Flags::COW_EXTENT_SIZE);

/// What a directory needs before anything is created in it.
const FIRST_OF_DIRECTORY: Flags =
    Flags::CASEFOLD.or(Flags::PROJECT_INHERIT).or(Flags::EXTENT_SIZE_INHERIT).or(Flags::COW_EXTENT_SIZE);

/// Sets what must be set before there is data, or names. [`set`], which runs later, notes failures.
pub(super) fn begin(file: BorrowedFd<'_>, wanted: &Traits, is_directory: bool) {
    let first = if is_directory { FIRST_OF_DIRECTORY } else { FIRST };
    let Ok(now) = inode::read(file) else { return };
    let now = now.traits;
    // Also clears flags inherited from its directory.
    let flags = now.flags.without(first).or(wanted.flags.and(first));
    if flags.word() != now.flags.word() {
        let _ = inode::set_flags(file, flags);
    }
    let mut more = Traits { flags, ..now };
    if is_directory {
        more.project = wanted.project;
    }
    (more.extent_size, more.cow_extent_size) = (wanted.extent_size, wanted.cow_extent_size);
    if more != (Traits { flags, ..now }) || flags.xword() != now.flags.xword() {
        let _ = inode::set_more(file, &more);
    }
}

/// Sets flags and similar attributes to exactly the wanted ones, except [`LAST`]. Notes what its file system
/// cannot hold.
pub(super) fn set(file: BorrowedFd<'_>, path: &[u8], wanted: &Traits, notes: &mut Notes) {
    let wanted = Traits { flags: wanted.flags.without(LAST), ..*wanted };
    let now = match inode::read(file) {
        Ok(found) => found.traits,
        Err(errno) => return lost(notes, path, &flag(wanted.flags), errno),
    };
    let now = Traits { flags: now.flags.without(LAST), ..now };
    if now == wanted {
        return;
    }
    if now.flags.word() != wanted.flags.word() && inode::set_flags(file, wanted.flags).is_err() {
        one_by_one(file, now.flags, wanted.flags);
    }
    let differs = |a: &Traits, b: &Traits| {
        Traits { flags: Flags::NONE, ..*a } != Traits { flags: Flags::NONE, ..*b }
            || a.flags.xword() != b.flags.xword()
            || a.flags.and(Flags::PROJECT_INHERIT) != b.flags.and(Flags::PROJECT_INHERIT)
    };
    let refused = if differs(&now, &wanted) { inode::set_more(file, &wanted).err() } else { None };
    note_difference(file, path, &wanted, refused, notes);
}

/// Sets `+i` and `+a`.
pub(super) fn seal(file: BorrowedFd<'_>, path: &[u8], flags: Flags, notes: &mut Notes) {
    let set = inode::read(file).and_then(|now| {
        let now = now.traits.flags;
        if now.and(LAST) == flags.and(LAST) {
            return Ok(());
        }
        inode::set_flags(file, now.without(LAST).or(flags.and(LAST)))
    });
    if let Err(errno) = set {
        lost(notes, path, &flag(flags.and(LAST)), errno);
    }
}

/// Makes it changeable. Returns true if it was immutable.
pub(super) fn unseal(file: BorrowedFd<'_>) -> Result<Flags, Errno> {
    let now = inode::read(file)?.traits.flags;
    if !now.and(LAST).is_empty() {
        inode::set_flags(file, now.without(LAST))?;
    }
    Ok(now.and(LAST))
}

/// Runs an action in a directory with the inheritance of its project turned off.
pub(super) fn without_project<T>(directory: BorrowedFd<'_>, work: impl FnOnce() -> T) -> T {
    let flags = inode::read(directory).map(|found| found.traits.flags);
    if let Ok(flags) = flags {
        let _ = inode::set_flags(directory, flags.without(Flags::PROJECT_INHERIT));
    }
    let done = work();
    if let Ok(flags) = flags {
        let _ = inode::set_flags(directory, flags);
    }
    done
}

/// One flag that the file system does not support must not prevent the others.
fn one_by_one(file: BorrowedFd<'_>, mut now: Flags, wanted: Flags) {
    for flag in now.or(wanted).each().filter(|flag| flag.word() != 0) {
        let next = if wanted.has(flag) { now.or(flag) } else { now.without(flag) };
        if next != now && inode::set_flags(file, next).is_ok() {
            now = next;
        }
    }
}

/// Some file systems silently drop flags that they do not support.
fn note_difference(
    file: BorrowedFd<'_>,
    path: &[u8],
    wanted: &Traits,
    refused: Option<Errno>,
    notes: &mut Notes,
) {
    let now = inode::read(file).unwrap_or_default().traits;
    let why = refused.unwrap_or(Errno::EOPNOTSUPP);
    for flag in wanted.flags.without(now.flags).each() {
        lost(notes, path, &self::flag(flag), why);
    }
    for flag in now.flags.without(LAST).without(wanted.flags).each() {
        let what = format!("the flag {} cannot be cleared; the original does not have it", flag.names());
        notes.push(NoteKind::InodeFlagLost, path, what);
    }
    if now.project != wanted.project {
        lost(notes, path, &format!("project {}", wanted.project), why);
    }
    let sizes = |traits: &Traits| (traits.extent_size, traits.cow_extent_size);
    if sizes(&now) != sizes(wanted) {
        lost(
            notes,
            path,
            &format!("size of extents {}", wanted.extent_size.max(wanted.cow_extent_size)),
            why,
        );
    }
}

/// The names of flags for a note.
fn flag(flags: Flags) -> String {
    format!("flag {}", flags.names())
}

fn lost(notes: &mut Notes, path: &[u8], what: &str, errno: Errno) {
    let why = match errno {
        Errno::EPERM | Errno::EACCES => "only root can set it",
        Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EINVAL => "its file system cannot hold it",
        other => other.desc(),
    };
    notes.push(NoteKind::InodeFlagLost, path, format!("the {what} is left out: {why}"));
}
