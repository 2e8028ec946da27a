//! A disk that fails where and how a test wants: a loop device on a file of a FUSE file system, which this
//! process serves.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};
use tempfile::TempDir;

use crate::tool::tool;

/// The kind of request that a rule applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
}

/// What happens to a matching request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It fails: the medium is damaged.
    Eio,
    /// It fails: the storage below the disk is full.
    NoSpace,
    /// It succeeds, and nothing is stored.
    Lose,
    /// It takes this much longer.
    Delay(Duration),
    /// It blocks until [`FaultyDisk::heal`].
    Hang,
}

/// A faulty part of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The kind of access.
    pub access: Access,
    /// The range in bytes.
    pub range: Range<u64>,
    /// The effect.
    pub effect: Effect,
}

/// The disk. It works until [`FaultyDisk::harm`].
pub struct FaultyDisk {
    node: String,
    size: u64,
    medium: Arc<Medium>,
    session: Option<BackgroundSession>,
    // Dropped after the file system in it.
    _dir: TempDir,
}

/// The disk's contents.
struct Medium {
    image: File,
    size: u64,
    rules: Mutex<Vec<Rule>>,
    healed: Condvar,
}

impl FaultyDisk {
    /// A blank disk of this size in bytes.
    ///
    /// # Panics
    /// Without root, `/dev/fuse` or a loop device.
    #[must_use]
    pub fn new(size: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = tempfile::tempfile().unwrap();
        image.set_len(size).unwrap();
        let medium = Arc::new(Medium { image, size, rules: Mutex::default(), healed: Condvar::new() });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("ka-fault".into())];
        let session = fuser::spawn_mount(Served(Arc::clone(&medium)), dir.path(), &config)
            .unwrap_or_else(|e| panic!("cannot mount FUSE (root and /dev/fuse are needed): {e}"));
        let node = tool("losetup", ["--find", "--show", dir.path().join("disk").to_str().unwrap()]);
        Self { node: node.trim().to_owned(), size, medium, session: Some(session), _dir: dir }
    }

    /// The device node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A range of it, given by shares from 0 to 1.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub fn part(&self, from: f64, to: f64) -> Range<u64> {
        let at = |share: f64| (self.size as f64 * share) as u64;
        at(from)..at(to)
    }

    /// Makes this part of it fail in this way from now on.
    pub fn harm(&self, rule: Rule) {
        self.medium.rules().push(rule);
    }

    /// Everything works again, and blocked requests continue.
    pub fn heal(&self) {
        self.medium.rules().clear();
        self.medium.healed.notify_all();
    }

    /// Reading works again; writing still fails.
    pub fn heal_reading(&self) {
        self.medium.rules().retain(|rule| rule.access == Access::Write);
        self.medium.healed.notify_all();
    }

    /// Erases the stored data, as if the file below had been truncated and extended to its old length.
    ///
    /// # Panics
    /// When the medium itself cannot be written.
    pub fn erase(&self, range: Range<u64>) {
        let zeros = vec![0; 1 << 20];
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(zeros.len() as u64);
            self.medium.image.write_all_at(&zeros[..usize::try_from(length).unwrap()], at).unwrap();
            at += length;
        }
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        self.heal();
        // The kernel keeps partitions that were registered with it; a disk without any is not an error.
        let _ = std::process::Command::new("partx").args(["-d", &self.node]).output();
        let _ = std::process::Command::new("losetup").args(["-d", &self.node]).output();
        // A program that probes the device in the meantime, as blkid does, keeps it open for a moment.
        for _ in 0..500 {
            let attached = std::path::Path::new("/sys/block").join(&self.node[5..]).join("loop");
            if !attached.exists() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            eprintln!("the FUSE file system below {} is left behind: {error}", self.node);
        }
    }
}

impl Medium {
    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides a request by the rules; waits if they require it.
    fn meet(&self, access: Access, offset: u64, length: u64) -> Option<Effect> {
        let mut rules = self.rules();
        loop {
            let met = |rule: &&Rule| {
                rule.access == access && rule.range.start < offset + length && offset < rule.range.end
            };
            match rules.iter().find(met).map(|rule| rule.effect) {
                Some(Effect::Hang) => rules = self.healed.wait(rules).unwrap_or_else(PoisonError::into_inner),
                Some(Effect::Delay(time)) => {
                    drop(rules);
                    thread::sleep(time);
                    return None;
                }
                effect => return effect,
            }
        }
    }

    fn attributes(&self) -> FileAttr {
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: DISK,
            size: self.size,
            blocks: self.size / 512,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: FileType::RegularFile,
            perm: 0o600,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// The only file.
const DISK: INodeNo = INodeNo(2);
/// How long the kernel may cache attributes.
const LONG: Duration = Duration::from_secs(3600);

/// A directory with one file in it, `disk`.
struct Served(Arc<Medium>);

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "disk" {
            reply.entry(&LONG, &self.0.attributes(), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let file = self.0.attributes();
        let root = FileAttr { ino: INodeNo::ROOT, kind: FileType::Directory, perm: 0o700, size: 0, ..file };
        reply.attr(&LONG, if inode == DISK { &file } else { &root });
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // The kernel must not answer from its cache.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.meet(Access::Read, offset, u64::from(size)) {
            Some(Effect::Eio | Effect::NoSpace) => return reply.error(Errno::EIO),
            Some(Effect::Lose | Effect::Delay(_) | Effect::Hang) | None => {}
        }
        let mut bytes = vec![0; size as usize];
        match self.0.image.read_at(&mut bytes, offset) {
            Ok(length) => reply.data(&bytes[..length]),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let length = u32::try_from(data.len()).unwrap();
        match self.0.meet(Access::Write, offset, u64::from(length)) {
            Some(Effect::Eio) => return reply.error(Errno::EIO),
            Some(Effect::NoSpace) => return reply.error(Errno::ENOSPC),
            Some(Effect::Lose) => return reply.written(length),
            Some(Effect::Delay(_) | Effect::Hang) | None => {}
        }
        match self.0.image.write_all_at(data, offset) {
            Ok(()) => reply.written(length),
            Err(error) => reply.error(error.into()),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }
}
