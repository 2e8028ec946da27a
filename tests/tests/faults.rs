//! A hundred seeded injections, the seeds that failed in the past, and proof that the fault layer itself
//! works as specified.
//!
//! `make bench CASES=faults` performs 500. The example `faults SEED 1 1` replays a single seed.
//!
//! Needs root, `/dev/fuse`, loop devices, network namespaces, and the file systems' tools.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;
use std::time::Duration;

use ka_tests::fault::campaign::{Injection, Verdict, campaign};
use ka_tests::fault::disk::{Access, Effect, FaultyDisk, Rule};
use ka_tests::fault::file_system::{FaultyFileSystem, Kind};
use ka_tests::fault::wire::{Harm, Wire, address};

/// Seeds beyond the first hundred that have failed in the past.
const REGRESSIONS: [u64; 1] = [117];

/// Most injections spend most of their time waiting.
const WORKERS: usize = 8;

#[test]
fn no_injection_ends_in_a_false_success_a_hang_or_an_untrue_reason() {
    let seeds: Vec<u64> = (0..100).chain(REGRESSIONS).collect();
    let verdicts = campaign(&seeds, WORKERS, |_| ());
    let said = |verdict: &Verdict| format!("{}\n    {:?}", verdict.injection, verdict.findings);
    let bad: Vec<String> = verdicts.iter().filter(|verdict| !verdict.is_good()).map(said).collect();
    assert!(bad.is_empty(), "{} of {} failed:\n{}", bad.len(), verdicts.len(), bad.join("\n"));
}

#[test]
fn a_seed_is_always_the_same_injection() {
    for seed in 0..1000 {
        assert_eq!(Injection::of(seed), Injection::of(seed));
    }
    let told = Injection::of(25).to_string();
    assert_eq!(told, "seed 25: SourceRewritten, File to 3, strikes 1 at 14 %, rounds 2");
}

/// Bypassing the page cache: the disk's own data.
fn direct(disk: &FaultyDisk) -> File {
    let flags = i32::try_from(rustix::fs::OFlags::DSYNC.bits()).unwrap();
    File::options().read(true).write(true).custom_flags(flags).open(disk.node()).unwrap()
}

fn forget(disk: &FaultyDisk) {
    assert!(Command::new("blockdev").args(["--flushbufs", disk.node()]).status().unwrap().success());
}

#[test]
fn a_disk_fails_where_it_should() {
    let disk = FaultyDisk::new(8 << 20);
    let file = direct(&disk);
    for (effect, error) in [(Effect::Eio, ErrorKind::Other), (Effect::NoSpace, ErrorKind::StorageFull)] {
        disk.harm(Rule { access: Access::Write, range: disk.part(0.5, 1.0), effect });
        file.write_all_at(&[1; 4096], 4096).unwrap();
        let failed = file.write_all_at(&[1; 4096], 6 << 20).unwrap_err();
        // The block layer converts the errors of a loop device into its own.
        assert!(failed.kind() == error || failed.raw_os_error() == Some(5), "{effect:?}: {failed}");
        disk.heal();
    }
    disk.harm(Rule { access: Access::Read, range: 0..4096, effect: Effect::Eio });
    forget(&disk);
    file.read_exact_at(&mut [0; 4096], 0).unwrap_err();
    file.read_exact_at(&mut [0; 4096], 1 << 20).unwrap();
}

#[test]
fn a_disk_loses_what_it_has_taken() {
    let disk = FaultyDisk::new(8 << 20);
    let file = direct(&disk);
    file.write_all_at(&[1; 4096], 1 << 20).unwrap();
    disk.harm(Rule { access: Access::Write, range: disk.part(0.0, 1.0), effect: Effect::Lose });
    file.write_all_at(&[2; 4096], 1 << 20).unwrap();
    forget(&disk);
    let mut bytes = [0; 4096];
    file.read_exact_at(&mut bytes, 1 << 20).unwrap();
    assert_eq!(bytes, [1; 4096]);
    disk.erase(0..8 << 20);
    forget(&disk);
    file.read_exact_at(&mut bytes, 1 << 20).unwrap();
    assert_eq!(bytes, [0; 4096]);
}

#[test]
fn a_disk_that_hangs_goes_on_when_it_is_healed() {
    let disk = FaultyDisk::new(8 << 20);
    let file = direct(&disk);
    disk.harm(Rule { access: Access::Write, range: disk.part(0.0, 1.0), effect: Effect::Hang });
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| file.write_all_at(&[1; 4096], 0));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!writer.is_finished());
        disk.heal();
        writer.join().unwrap().unwrap();
    });
}

#[test]
fn a_file_system_is_shut_down_or_damaged() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let made = FaultyFileSystem::new(kind);
        fs::write(made.path().join("before"), "x").unwrap();
        assert!(made.shut_down());
        fs::write(made.path().join("after"), "x").unwrap_err();
        assert!(!made.again().unwrap().join("after").exists());
    }
    let made = FaultyFileSystem::with_damaged_bitmaps();
    let path = made.path().join("file");
    // Allocated later: no error is visible here.
    fs::write(&path, vec![1; 20 << 20]).unwrap();
    let _ = File::open(&path).unwrap().sync_all();
    let kept = fs::read(made.again().unwrap().join("file")).unwrap_or_default();
    assert!(kept.iter().filter(|byte| **byte == 1).count() < 20 << 20, "nothing was lost");
}

/// 4 MiB over the wire; returns whether they arrived unchanged.
fn carried(name: &str, harm: Harm) -> (bool, u64) {
    let wire = Wire::new(name, 2, 1);
    wire.harm(1, harm);
    let sent: Vec<u8> = (0..4_u32 << 20).map(|i| ((i * 7) >> 3).to_le_bytes()[0]).collect();
    let got = std::thread::scope(|scope| {
        let listener = wire.enter(0, || TcpListener::bind((address(0), 7)).unwrap());
        let receiver = scope.spawn(move || {
            let mut got = Vec::new();
            std::io::Read::read_to_end(&mut listener.accept().unwrap().0, &mut got).unwrap();
            got
        });
        let mut stream = wire.enter(1, || TcpStream::connect((address(0), 7)).unwrap());
        std::io::Write::write_all(&mut stream, &sent).unwrap();
        drop(stream);
        receiver.join().unwrap()
    });
    (got == sent, wire.harmed())
}

#[test]
fn a_wire_does_what_it_should_and_tcp_notices_no_flip() {
    assert_eq!(carried("honest", Harm::default()), (true, 0));
    for harm in [Harm { reorder: 100, ..Harm::default() }, Harm { double: 100, ..Harm::default() }] {
        let (right, harmed) = carried("harmed", harm);
        assert!(right && harmed > 10, "{harm:?}: {right}, {harmed}");
    }
    let (right, harmed) = carried("flips", Harm { flip: 100, ..Harm::default() });
    assert!(!right && harmed > 10, "{harmed}");
}
