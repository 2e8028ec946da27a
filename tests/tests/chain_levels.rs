//! How a stream is made, as a person may choose it: the level of compression, and the SHA-256 of all.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs;
use std::path::{Path, PathBuf};

use ka_tests::site::{MIB, Site, reasons, summary};

/// A file of which half compresses, over several chunks.
fn half_noise(site: &Site) -> PathBuf {
    let noise = fs::read(site.noise("noise", 3 * MIB, 1)).unwrap();
    let path = site.path("half");
    fs::write(&path, [b"all work and no play\n".repeat(3 * MIB / 21).as_slice(), &noise].concat()).unwrap();
    path
}

#[test]
fn any_level_gives_the_same_bytes_and_none_sends_them_as_they_are() {
    let site = Site::new();
    let file = half_noise(&site);
    let length = file.metadata().unwrap().len();
    for (level, smaller) in [("auto", true), ("none", false), ("-7", true), ("1", true), ("9", true)] {
        let level_option = format!("--level={level}");
        let options = [Path::new("--file"), &file, Path::new(&level_option)];
        let mut sender = site.send("a", 2, options);
        let mut receivers = site.receivers(&mut sender, "a", 2);
        assert_eq!(sender.end(), 0, "{level}: {}", sender.said());
        for (i, receiver) in receivers.iter_mut().enumerate() {
            assert_eq!(receiver.end(), 0, "{level}: {}", receiver.said());
            assert!(site.holds(&format!("out-{i}"), &[&file]), "{level}, node {i}");
            fs::remove_file(site.path(&format!("out-{i}"))).unwrap();
        }
        let sent = summary(&sender)["wire_bytes"].as_u64().unwrap();
        assert_eq!(sent < length * 3 / 4, smaller, "{level}: {sent} of {length}");
    }
    let mut sender = site.start_send("a", 1, ["--file".as_ref(), file.as_path(), "--level=10".as_ref()]);
    assert_eq!(sender.end(), 2);
    assert!(sender.said().contains("a level is auto, none, -7 to -1, or 1 to 9"), "{}", sender.said());
}

#[test]
fn the_sha_256_is_compared_by_those_who_ask_for_it_on_both_sides() {
    let site = Site::new();
    let file = half_noise(&site);
    for (is_made, status) in [(true, 0), (false, 1)] {
        let mut options = vec![Path::new("--file"), file.as_path()];
        options.extend(is_made.then_some(Path::new("--check-sum")));
        let mut sender = site.send("a", 1, options);
        let out = site.path("out");
        let sink = ["--file".as_ref(), out.as_path(), "--check-sum".as_ref()];
        let mut receiver = site.receiver(&mut sender, "a", 0, sink);
        assert_eq!((receiver.end(), sender.end()), (status, status), "{}", receiver.said());
        assert_eq!(out.exists(), is_made, "nothing unproven gets its name");
        let why = "start 'kactl send' with --check-sum";
        let said = reasons(&sender).into_iter().flatten().any(|reason| reason.contains(why));
        assert_eq!(said, !is_made, "{}", sender.said());
        if is_made {
            assert!(site.holds("out", &[&file]));
            fs::remove_file(&out).unwrap();
        }
    }
}
