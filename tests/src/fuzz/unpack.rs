//! Unpacks an archive below a directory: no entry can escape from it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ka_agent::unpack::{Options, unpack};

use super::archive::with_checksums;

/// Unpacks any bytes next to a file that must not change.
pub(super) fn any_archive(data: &[u8]) {
    let place = tempfile::tempdir().expect("a directory");
    let (root, outside) = (place.path().join("root"), place.path().join("outside"));
    fs::create_dir(&root).expect("a directory");
    fs::create_dir(&outside).expect("a directory");
    fs::write(outside.join("file"), "as it was").expect("a file");
    // Existing links that lead out.
    symlink("../outside", root.join("out")).expect("a link");
    symlink("../outside/file", root.join("file")).expect("a link");
    symlink(&outside, root.join("away")).expect("a link");
    let before = seen(&outside);
    let options = Options { same_owner: false, sync: false, ..Options::default() };
    let outcome = unpack(with_checksums(data).as_slice(), &root, &options);
    assert_eq!(seen(&outside), before, "{outcome:?}");
    assert_eq!(names(place.path()), ["outside", "root"], "{outcome:?}");
    if let Err(error) = outcome {
        assert!(!error.to_string().is_empty());
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The state of the directory and the file in it that an archive could change.
fn seen(directory: &Path) -> String {
    let file = directory.join("file");
    let state = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        let m = fs::symlink_metadata(path).expect("it is there");
        (m.mode(), m.uid(), m.gid(), m.nlink(), m.size(), m.mtime(), m.mtime_nsec())
    };
    let content = fs::read(&file).expect("it is there");
    format!("{:?} {:?} {:?} {content:?}", names(directory), state(directory), state(&file))
}
