use super::*;

const GB: u64 = 1_000_000_000;

fn disk(name: &str, bus: &str, size: u64) -> Disk {
    Disk {
        name: name.to_owned(),
        bus: bus.to_owned(),
        size,
        model: "KA MODEL".to_owned(),
        serial: format!("S-{name}"),
        by_id: vec![format!("{bus}-KA_MODEL_S-{name}")],
        ..Disk::default()
    }
}

fn choice(text: &str) -> DiskChoice {
    text.parse().unwrap()
}

fn found(choice: &DiskChoice, disks: &[Disk]) -> String {
    match choice.find(disks) {
        Ok(disk) => disk.name.clone(),
        Err(e) => format!("error: {e}"),
    }
}

#[test]
fn choices_are_read_and_printed() {
    for text in [
        "sda",
        "nvme0n1",
        "auto",
        "by-id:ata-*",
        "sda:size=480000000000",
        "sda:size=1,model=a b=c,serial=X",
        "/dev/disk/by-path/pci-0000:00:04.0",
    ] {
        assert_eq!(choice(text).to_string(), text);
    }
    assert_eq!(choice("/dev/sda:serial=X"), choice("sda:serial=X"));
    assert_eq!(choice("/dev/disk/by-id/ata-X"), choice("by-id:ata-X"));
    for (text, size) in [
        ("480G", 480 * GB),
        ("1.92TB", 1920 * GB),
        ("0.5k", 500),
        ("2GiB", 2 << 30),
        ("1.000001M", 1_000_001),
    ] {
        let DiskChoice::Name { expect, .. } = choice(&format!("sda:size={text}")) else { panic!("{text}") };
        assert_eq!(expect.size, Some(size), "{text}");
    }
}

#[test]
fn bad_choices_are_told() {
    for (text, part) in [
        ("", "expected a disk"),
        ("s da", "expected a disk"),
        ("by-id:", "expected a disk"),
        (":size=1", "expected a disk"),
        ("sda:", "expected `size=`"),
        ("sda:colour=red", "found `colour=red`"),
        ("sda:serial=", "found `serial=`"),
        ("sda:size=1,size=2", "given twice"),
        ("sda:size=0", "expected a size"),
        ("sda:size=12X", "found `12X`"),
        ("sda:size=1.2345678G", "expected a size"),
        ("sda:size=.5G", "expected a size"),
        ("sda:size=99999999999T", "expected a size"),
        ("sda:size=1..2", "expected a size"),
    ] {
        let error = text.parse::<DiskChoice>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_name_is_checked_against_what_is_expected() {
    let disks = [disk("sda", "ata", 480_103_981_056), disk("sdb", "ata", 4000 * GB)];
    for (text, expected) in [
        ("sda", "sda"),
        ("sda:size=480G", "sda"),
        ("sda:size=480G,model=MODEL,serial=S-sda", "sda"),
        (
            "sdb:size=480G",
            "error: sdb: expected size `480.0 GB`, found `4.0 TB`: it is another disk, and stays as it is",
        ),
        (
            "sda:model=OTHER",
            "error: sda: expected model `OTHER`, found `KA MODEL`: it is another disk, and stays as it is",
        ),
        (
            "sda:serial=S-sd",
            "error: sda: expected serial `S-sd`, found `S-sda`: it is another disk, and stays as it is",
        ),
    ] {
        assert_eq!(found(&choice(text), &disks), expected);
    }
    let missing = found(&choice("vda"), &disks);
    assert!(
        missing.contains("no such disk; it has sda (480.1 GB, ata, KA MODEL, serial S-sda), sdb"),
        "{missing}"
    );
    assert!(found(&choice("vda"), &[]).ends_with("it has no disk"));
}

#[test]
fn removable_network_and_used_disks_are_not_taken() {
    let plain = disk("sda", "ata", GB);
    for (disk, part) in [
        (Disk { removable: true, ..plain.clone() }, "removable medium"),
        (Disk { network: true, ..plain.clone() }, "storage network"),
        (
            Disk { in_use: true, usage: Some("sda1 is mounted at /".into()), ..plain.clone() },
            "in use: sda1 is mounted at /",
        ),
    ] {
        let is_network = disk.network;
        let disks = [disk];
        assert!(found(&choice("sda"), &disks).contains(part));
        let by_id = found(&choice("by-id:ata-*"), &disks);
        assert!(if is_network { by_id == "sda" } else { by_id.contains(part) }, "{by_id}");
        assert!(found(&choice("auto"), &disks).starts_with("error: "), "{part}");
    }
}

#[test]
fn an_external_disk_is_taken_only_if_more_than_its_name_is_said() {
    for (bus, name) in [("usb", "sda"), ("firewire", "sda"), ("nvme", "nvme0n1")] {
        let external = Disk { external: true, ..disk(name, bus, 480 * GB) };
        let disks = [external];
        for text in [name.to_owned(), "auto".into(), format!("{name}:model=KA"), format!("/dev/{name}")] {
            let refused = found(&choice(&text), &disks);
            assert!(refused.starts_with("error: ") && refused.contains("external"), "{text}: {refused}");
        }
        for text in [format!("{name}:size=480G"), format!("{name}:serial=S-{name}"), "by-id:*_S-*".into()] {
            assert_eq!(found(&choice(&text), &disks), name, "{text}");
        }
        assert_eq!(choice(name).look_at(&disks).unwrap().name, name, "it may be looked at");
    }
}

#[test]
fn auto_is_the_only_fixed_disk_or_the_one_like_the_golden() {
    let golden = DiskChoice::Auto { bus: "ata".into(), size: 480 * GB, except: vec![] };
    let stick = Disk { removable: true, ..disk("sdz", "usb", 480 * GB) };
    let lun = Disk { network: true, ..disk("sdy", "scsi", 480 * GB) };
    let file = disk("loop0", "loop", 480 * GB);
    let (small, large) = (disk("sda", "ata", 480 * GB), disk("sdb", "ata", 4000 * GB));
    let with = |disks: &[&Disk]| disks.iter().map(|d| (*d).clone()).collect::<Vec<_>>();
    assert_eq!(found(&golden, &with(&[&stick, &lun, &file, &large])), "sdb");
    assert_eq!(found(&golden, &with(&[&large, &small])), "sda");
    assert_eq!(found(&golden, &with(&[&disk("nvme0n1", "nvme", 480 * GB), &small])), "sda");
    let twins = found(&golden, &with(&[&small, &disk("sdc", "ata", 478 * GB), &large]));
    assert!(
        twins.contains("several disks") && twins.contains("sdc (478.0 GB") && !twins.contains("sdb"),
        "{twins}"
    );
    let others = found(&golden, &with(&[&disk("vda", "virtio", GB), &disk("vdb", "virtio", GB)]));
    assert!(others.contains("several disks could be meant: vda"), "{others}");
    let unknown = found(&choice("auto"), &with(&[&small, &large]));
    assert!(unknown.contains("several disks"), "{unknown}");
    let busy = Disk { in_use: true, ..disk("sdd", "ata", 480 * GB) };
    assert!(found(&golden, &with(&[&small, &busy])).contains("several disks"));
    assert!(found(&golden, &with(&[&stick])).contains("no such disk"));
}

#[test]
fn auto_passes_over_what_is_left_out() {
    let golden = |except: &[&str]| DiskChoice::Auto {
        bus: "ata".into(),
        size: 480 * GB,
        except: except.iter().map(|name| (*name).to_owned()).collect(),
    };
    let twins = [disk("sda", "ata", 480 * GB), disk("sdb", "ata", 480 * GB)];
    assert_eq!(found(&golden(&["sdb"]), &twins), "sda");
    assert_eq!(found(&golden(&["sdc"]), &twins[..1]), "sda");
    assert!(found(&golden(&["sda"]), &twins[..1]).contains("no such disk"));
    // The disks may have changed names: the one left over does not resemble the golden one.
    let swapped = [disk("sda", "ata", 4000 * GB), disk("sdb", "ata", 480 * GB)];
    assert!(found(&golden(&["sdb"]), &swapped).contains("no such disk"));
}

#[test]
fn a_network_disk_on_two_paths_is_one_disk() {
    let lun =
        |name: &str| Disk { network: true, by_id: vec!["wwn-0x6000".into()], ..disk(name, "scsi", 100 * GB) };
    assert_eq!(found(&choice("by-id:wwn-*"), &[lun("sda"), lun("sdb")]), "sda");
    // Two local disks with one name are a mistake.
    let local = |name| Disk { network: false, ..lun(name) };
    assert!(found(&choice("by-id:wwn-*"), &[local("sda"), local("sdb")]).contains("several disks"));
}

#[test]
fn several_choices_mean_several_disks() {
    let disks = [disk("sda", "ata", 100 * GB), disk("sdb", "ata", 100 * GB)];
    let find = |texts: &[&str]| {
        let choices: Vec<DiskChoice> = texts.iter().map(|text| choice(text)).collect();
        let choices: Vec<&DiskChoice> = choices.iter().collect();
        find_all(&choices, &disks)
            .map(|found| found.into_iter().map(|disk| disk.name.clone()).collect::<Vec<_>>())
            .map_err(|e| e.to_string())
    };
    assert_eq!(find(&["sdb", "sda"]).unwrap(), ["sdb", "sda"]);
    assert_eq!(find(&["auto", "sda"]).unwrap(), ["sdb", "sda"]);
    assert_eq!(find(&["sda", "by-id:*sda"]).unwrap_err(), "`sda` and `by-id:*sda` mean the same disk, sda");
    assert!(find(&["auto", "auto"]).unwrap_err().contains("several disks"));
}
