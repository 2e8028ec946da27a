use std::fs;
use std::time::Instant;

use super::*;
use crate::finish::config::names::tests::{BTRFS, ROOT, made, made_btrfs};
use ka::plan::{GoldenCard, GoldenHost, GoldenMachine, NodeAddress, NodeName};

const GOLDEN: &str = "00000001-0000-4000-8000-000000000000";

fn plan() -> FinishPlan {
    let card = |interface: &str, mac: &str| GoldenCard {
        interface: interface.to_owned(),
        mac: Some(mac.parse().unwrap()),
        ..GoldenCard::default()
    };
    FinishPlan {
        name: Some(NodeName {
            hostname: "node7".to_owned(),
            address: Some(NodeAddress { address: [10, 0, 0, 7].into(), prefix: None, gateway: None }),
            cards: Vec::new(),
        }),
        golden: GoldenHost {
            address: Some([10, 0, 0, 1].into()),
            cards: vec![card("eth0", "52:54:00:ab:cd:01"), card("eth1", "52:54:00:ab:cd:02")],
            ..GoldenHost::default()
        },
        machine: GoldenMachine {
            hostname: Some("golden.example.org".to_owned()),
            devices: [
                "/dev/disk/by-uuid/ABCD-1234",
                "/dev/disk/by-id/ata-OTHER_S1-part2",
                "/dev/disk/by-id/dm-name-old-swap",
                "/dev/mapper/old-swap",
                "/dev/old/swap",
                "/dev/md127",
                "/dev/disk/by-id/md-uuid-0a0b0c0d:11112222:33334444:55556666",
                r"/dev/disk/by-partlabel/Old\x20data",
                "/dev/null",
            ]
            .map(str::to_owned)
            .to_vec(),
            tables: vec!["deadbeef".to_owned()],
        },
        first_boot: None,
        store_log_password: None,
    }
}

/// Each hit, as `path:line term` without the root.
fn found(files: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(to) => std::os::unix::fs::symlink(to, path).unwrap(),
            None => fs::write(path, text).unwrap(),
        }
    }
    let made = [made(), made_btrfs()].concat();
    let names = Names::new(&made);
    let terms = Terms::new(&plan(), &names, "node7", |device| Path::new(device) == Path::new("/dev/null"));
    let mut search = Search::new(&terms).unwrap();
    let mut told = Vec::new();
    for place in PLACES {
        search
            .tree(root.path(), Path::new(place), &mut |hit| {
                match judge::verdict(&hit, terms.get(hit.term), &names) {
                    Verdict::Harmless => {}
                    Verdict::Warn => told.push(format!(
                        "{}{} {}",
                        hit.path.display(),
                        super::told(&[hit.location]),
                        terms.get(hit.term).text
                    )),
                    Verdict::Fatal(wrong) => {
                        return Err(Cause::NotBootable { path: hit.path.to_owned(), wrong });
                    }
                }
                Ok(())
            })
            .map_err(|e| e.to_string())?;
    }
    told.dedup();
    Ok(told)
}

#[test]
fn every_name_is_found_with_file_and_line() {
    let escaped = GOLDEN.replace('-', r"\x2d");
    for (file, text, expected) in [
        (
            "etc/app.conf",
            format!("a\nb\ndisk = {}\n", GOLDEN.to_uppercase()),
            format!("etc/app.conf:3 {GOLDEN}"),
        ),
        (
            "etc/app.service",
            format!("Wants=dev-disk-by\\x2duuid-{escaped}.device"),
            format!("etc/app.service:1 {GOLDEN}"),
        ),
        ("etc/a", "x PARTUUID=DEADBEEF-02\n".to_owned(), "etc/a:1 deadbeef-02".to_owned()),
        ("etc/a", "id 0xdeadbeef\n".to_owned(), String::new()),
        ("etc/a", "id deadbeef\n".to_owned(), "etc/a:1 deadbeef".to_owned()),
        ("etc/a", "UUID=abcd-1234".to_owned(), "etc/a:1 ABCD-1234".to_owned()),
        (
            "etc/smartd.conf",
            "/dev/disk/by-id/ata-OTHER_S1 -a\n".to_owned(),
            "etc/smartd.conf:1 ata-OTHER_S1".to_owned(),
        ),
        ("etc/a", "ata-OTHER_S1-part3".to_owned(), "etc/a:1 ata-OTHER_S1".to_owned()),
        ("etc/a", "ata-OTHER_S12".to_owned(), String::new()),
        ("etc/a", "x=/dev/mapper/old-swap".to_owned(), "etc/a:1 /dev/mapper/old-swap".to_owned()),
        ("etc/a", "rd.lvm.lv=old/swap".to_owned(), "etc/a:1 /dev/old/swap".to_owned()),
        ("etc/a", "dev-md127.device".to_owned(), "etc/a:1 /dev/md127".to_owned()),
        (
            "etc/a",
            "UUID=0A0B0C0D:11112222:33334444:55556666".to_owned(),
            "etc/a:1 md-uuid-0a0b0c0d:11112222:33334444:55556666".to_owned(),
        ),
        ("etc/a", "/dev/md1270".to_owned(), String::new()),
        ("etc/a", "PARTLABEL=\"Old data\"".to_owned(), "etc/a:1 PARTLABEL=Old data".to_owned()),
        ("etc/a", r"by-partlabel/Old\x20data".to_owned(), "etc/a:1 PARTLABEL=Old data".to_owned()),
        ("etc/a", "o=subvolid=1423,x".to_owned(), "etc/a:1 subvolid=".to_owned()),
        ("etc/a", "subvolid=5 subvolid=0".to_owned(), String::new()),
        ("etc/a", "hw 52-54-00-AB-CD-02;".to_owned(), "etc/a:1 52:54:00:ab:cd:02".to_owned()),
        ("etc/a", "ethernet_525400abcd01_x 525400abcd01".to_owned(), "etc/a:1 52:54:00:ab:cd:01".to_owned()),
        ("etc/a", "52:54:00:ab:cd:02:03".to_owned(), "etc/a:1 52:54:00:ab:cd:02".to_owned()),
        ("etc/a", "bind 10.0.0.1:80".to_owned(), "etc/a:1 10.0.0.1".to_owned()),
        ("etc/a", "110.0.0.1 10.0.0.10 10.0.0.1.5 1.10.0.0.1".to_owned(), String::new()),
        ("etc/a", "at Golden.example.org.".to_owned(), "etc/a:1 golden".to_owned()),
        ("etc/a", "golden-db x.golden goldens my_golden".to_owned(), String::new()),
        ("etc/hosts", "10.0.0.1 golden.example.org golden\n".to_owned(), String::new()),
        ("etc/hosts", "127.0.0.1 golden\n".to_owned(), "etc/hosts:1 golden".to_owned()),
        ("etc/a", format!("# was {GOLDEN}\n; {GOLDEN}\n  // {GOLDEN}\n"), String::new()),
        ("etc/golden.crt", String::new(), "etc/golden.crt (its name) golden".to_owned()),
        (
            "etc/link",
            "-> /srv/52-54-00-ab-cd-01".to_owned(),
            "etc/link (what it leads to) 52:54:00:ab:cd:01".to_owned(),
        ),
        ("boot/x.efi", format!("MZ\0\0golden {GOLDEN}"), format!("boot/x.efi (byte 11) {GOLDEN}")),
        ("boot/efi/EFI/x/x.cfg", "\n\nABCD-1234".to_owned(), "boot/efi/EFI/x/x.cfg:3 ABCD-1234".to_owned()),
        ("etc/.git/logs", GOLDEN.to_owned(), String::new()),
        ("etc/a", format!("{ROOT} /dev/null"), String::new()),
    ] {
        let found = found(&[(file, &text)]).unwrap();
        let expected: Vec<String> = if expected.is_empty() { Vec::new() } else { vec![expected] };
        assert_eq!(found, expected, "{file}: {text}");
    }
}

#[test]
fn what_the_boot_waits_for_is_a_failure() {
    for (file, text, fatal) in [
        ("etc/fstab", "UUID=ABCD-1234 /data ext4 defaults 0 2\n".to_owned(), true),
        ("etc/fstab", "UUID=ABCD-1234 /data ext4 nofail 0 2\n".to_owned(), false),
        ("etc/fstab", format!("UUID={ROOT} / xfs logdev=/dev/md127 0 0\n"), true),
        ("etc/fstab", format!("UUID={BTRFS} /x btrfs subvolid=1423 0 0\n"), true),
        ("etc/fstab", format!("UUID={ROOT} /x btrfs subvolid=1423 0 0\n"), false),
        ("etc/fstab", "UUID=ABCD-1234 none swap sw 0 0\n".to_owned(), false),
        ("etc/fstab", "# UUID=ABCD-1234 /data ext4 defaults 0 2\n".to_owned(), false),
        ("boot/grub2/grubenv", format!("kernelopts=root=UUID={ROOT} rd.lvm.lv=old/swap\n"), true),
        ("boot/grub/grub.cfg", format!("linux /vmlinuz root=UUID={ROOT} ro rd.lvm.lv=old/swap\n"), true),
        ("boot/grub/grub.cfg", format!("linux /vmlinuz root=UUID={ROOT} ro x=old/swap\n"), false),
        (
            "boot/grub/grub.cfg",
            "linux /vmlinuz root=UUID=ABCD-1234 ro rd.lvm.lv=old/swap\n".to_owned(),
            false,
        ),
        ("boot/loader/entries/x.conf", format!("options root=UUID={ROOT} rootflags=subvolid=1423\n"), true),
        ("etc/kernel/cmdline", format!("root=UUID={ROOT} rd.md.uuid=x mount.usr=UUID=ABCD-1234"), true),
        ("etc/other", format!("root=UUID={ROOT} mount.usr=UUID=ABCD-1234"), false),
    ] {
        let judged = found(&[(file, &text)]);
        assert_eq!(judged.is_err(), fatal, "{file}: {text}: {judged:?}");
    }
}

/// Lines are counted across reads, and a name that spans two reads is found.
#[test]
fn large_files_and_files_without_lines_are_searched_in_little_memory() {
    let mut text = String::new();
    for number in 1..60_000 {
        text.push_str(&format!("line {number} of a long file\n"));
    }
    text.push_str(GOLDEN);
    let long = "x ".repeat(300_000);
    let mut across = " ".repeat((256 << 10) - 10);
    across.push_str(&format!("{GOLDEN} {long}"));
    let begun = Instant::now();
    let found =
        found(&[("etc/lines", &text), ("etc/one", &across), ("etc/zero", &format!("\0{across}"))]).unwrap();
    assert_eq!(
        found,
        [
            format!("etc/lines:60000 {GOLDEN}"),
            format!("etc/one:1 {GOLDEN}"),
            format!("etc/zero (byte {}) {GOLDEN}", (256 << 10) - 9)
        ]
    );
    println!("searched in {:?}", begun.elapsed());
}
