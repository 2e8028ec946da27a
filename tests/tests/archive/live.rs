//! A golden node whose files change while it is read.
//!
//! The packer's output provides the synchronisation: when its first bytes arrive, the first mebibyte of the
//! first file has been read, and nothing after it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use kactl::golden::pack::{Options, PackError, Summary, pack_dir};

use super::{room, unpacked};

const MIB: usize = 1 << 20;

/// Runs an action on the first write.
struct Trigger<F> {
    action: Option<F>,
    bytes: Vec<u8>,
}

impl<F: FnOnce()> Write for Trigger<F> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        if let Some(action) = self.action.take() {
            action();
        }
        self.bytes.extend(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Packs `golden` while `action` is run on it; returns the unpacked result.
fn packed_during(golden: &Path, action: impl FnOnce()) -> (Summary, tempfile::TempDir) {
    let mut out = Trigger { action: Some(action), bytes: Vec::new() };
    let summary = pack_dir(golden, &Options::default(), &mut out).unwrap();
    assert!(out.action.is_none());
    let copy = room();
    unpacked(&out.bytes, copy.path());
    (summary, copy)
}

fn notes(summary: &Summary) -> Vec<String> {
    summary.notes.first().iter().map(ToString::to_string).collect()
}

fn golden_with(len: usize) -> tempfile::TempDir {
    let golden = room();
    fs::write(golden.path().join("a"), vec![b'x'; len]).unwrap();
    golden
}

#[test]
fn a_file_that_shrinks_is_filled_up_with_zeros() {
    let golden = golden_with(8 * MIB);
    let path = golden.path().join("a");
    let (summary, copy) = packed_during(golden.path(), || {
        fs::File::options().write(true).open(&path).unwrap().set_len(2 << 20).unwrap()
    });
    assert_eq!(notes(&summary), ["./a: it shrank while it was read; its last 6291456 bytes are zeros"]);
    let data = fs::read(copy.path().join("a")).unwrap();
    assert!(data[..2 * MIB].iter().all(|&b| b == b'x') && data[2 * MIB..].iter().all(|&b| b == 0));
    assert_eq!(data.len(), 8 * MIB);
}

#[test]
fn a_file_that_grows_is_cut() {
    let golden = golden_with(8 * MIB);
    let path = golden.path().join("a");
    let (summary, copy) = packed_during(golden.path(), || {
        fs::File::options().append(true).open(&path).unwrap().write_all(&[b'y'; 100]).unwrap();
    });
    assert_eq!(notes(&summary), ["./a: it grew by 100 bytes while it was read; they are left out"]);
    assert_eq!(fs::read(copy.path().join("a")).unwrap(), vec![b'x'; 8 * MIB]);
}

#[test]
fn a_file_that_is_written_to_is_noted() {
    let golden = golden_with(8 * MIB);
    let path = golden.path().join("a");
    let (summary, _copy) = packed_during(golden.path(), || {
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    });
    assert_eq!(notes(&summary), ["./a: it was written to while it was read; its copy may be inconsistent"]);
}

#[test]
fn files_that_vanish_or_become_something_else_are_noted() {
    let golden = golden_with(2 * MIB);
    let at = |name: &str| golden.path().join(name);
    for file in ["gone", "to-directory", "to-fifo", "to-link", "to-socket"] {
        fs::write(at(file), b"data").unwrap();
    }
    for directory in ["gone-directory", "to-file", "way"] {
        fs::create_dir(at(directory)).unwrap();
        fs::write(at(directory).join("below"), b"data").unwrap();
    }
    symlink("target", at("gone-link")).unwrap();
    symlink("target", at("link-to-file")).unwrap();
    let (summary, copy) = packed_during(golden.path(), || {
        for file in ["gone", "to-directory", "to-fifo", "to-link", "to-socket", "gone-link", "link-to-file"] {
            fs::remove_file(at(file)).unwrap();
        }
        for directory in ["gone-directory", "to-file", "way"] {
            fs::remove_dir_all(at(directory)).unwrap();
        }
        fs::create_dir(at("to-directory")).unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, at("to-fifo"), kind, mode, 0).unwrap();
        symlink("/etc/shadow", at("to-link")).unwrap();
        symlink("/etc", at("way")).unwrap();
        std::os::unix::net::UnixListener::bind(at("to-socket")).unwrap();
        fs::write(at("to-file"), b"data").unwrap();
        fs::write(at("link-to-file"), b"data").unwrap();
    });
    let other = "its type changed while it was read, and it is left out";
    let vanished = "it vanished while it was read";
    assert_eq!(
        notes(&summary),
        [
            format!("./gone: {vanished}"),
            format!("./gone-directory: {vanished}"),
            format!("./gone-link: {vanished}"),
            format!("./to-directory: {other}"),
            format!("./to-fifo: {other}"),
            format!("./to-file: {other}"),
            format!("./to-link: {other}"),
            format!("./to-socket: {other}"),
            format!("./way: {other}"),
        ]
    );
    let names: Vec<_> = super::snapshot::snapshot(copy.path()).into_keys().collect();
    assert_eq!(names, ["", "a", "link-to-file"].map(std::path::PathBuf::from));
}

/// So deep that the packer has closed the directories above, and cannot find all of them again.
#[test]
fn a_directory_that_is_moved_loses_its_rest_only() {
    let golden = room();
    let chain = |depth: usize| golden.path().join("d/".repeat(depth));
    fs::create_dir_all(chain(100)).unwrap();
    for depth in 0..=100 {
        fs::write(chain(depth).join("z"), b"data").unwrap();
    }
    fs::write(chain(100).join("a"), vec![b'x'; 2 * MIB]).unwrap();
    let (summary, copy) =
        packed_during(golden.path(), || fs::rename(chain(10), golden.path().join("moved")).unwrap());
    let lost = |depth: usize| copy.path().join("d/".repeat(depth)).join("z");
    assert!((0..10).all(|depth| lost(depth).exists()) && !lost(10).exists() && lost(100).exists());
    let note = "it vanished or was moved while it was read; the rest of it is left out";
    let expected = format!("./{}d: {note}", "d/".repeat(9));
    assert_eq!(notes(&summary).last(), Some(&expected));
}

#[test]
fn sockets_are_left_out_and_noted() {
    let golden = room();
    std::os::unix::net::UnixListener::bind(golden.path().join("socket")).unwrap();
    let summary = pack_dir(golden.path(), &Options::default(), Vec::new()).unwrap();
    assert_eq!(notes(&summary), ["./socket: it is a socket, and is left out"]);
}

/// The kernel returns an error for reads of some attributes of a network card.
#[test]
fn a_file_that_cannot_be_read_ends_the_packing() {
    let error = pack_dir(Path::new("/sys/class/net/lo/"), &Options::default(), Vec::new()).unwrap_err();
    let PackError::Source { path, .. } = &error else { panic!("{error}") };
    assert!(path.starts_with("/sys/class/net/lo/"), "{error}");
    let error = pack_dir(Path::new("/nonexistent"), &Options::default(), Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "cannot open /nonexistent: No such file or directory (os error 2)");
}

#[test]
fn a_reader_that_goes_away_ends_the_packing() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let golden = golden_with(10);
    let error = pack_dir(golden.path(), &Options::default(), Closed).unwrap_err();
    assert!(matches!(error, PackError::Archive(ka::archive::ArchiveError::Write { .. })), "{error}");
}
