//! sfdisk's scripts, by tables of what is right and what is told about what is wrong.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::{Description, DiskId, DiskSignature, Format, Length, Role, Size};
use ka::disk::kind::{PartitionKind, TableKind};
use ka::disk::units::SectorSize;
use proptest::prelude::*;

fn parse(text: &str) -> Description {
    Description::parse(text, "script").unwrap_or_else(|e| panic!("{e}"))
}

fn error(text: &str) -> String {
    Description::parse(text, "script").unwrap_err().to_string()
}

fn sectors(number: u64) -> Size {
    Size::Fixed(Length::Sectors(number))
}

const GPT_DUMP: &str = "label: gpt\nlabel-id: A79A7D39-B735-064B-87C5-9D0EF0D9D6C1\ndevice: /dev/nvme0n1\n\
    unit: sectors\nfirst-lba: 2048\nlast-lba: 2097118\nsector-size: 512\n\n\
    /dev/nvme0n1p1 : start=        2048, size=      204800, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, \
    uuid=1168E7B1-4812-BD4B-A461-6C13DAD09B2F, name=\"EFI \\xc3\\xa9\", attrs=\"RequiredPartition GUID:63\"\n\
    /dev/nvme0n1p4 : start=      206848, size=     1888256, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, \
    uuid=75EECA66-796B-754F-B99D-B14D8D8160FD\n";

#[test]
fn dumps_of_gpts_are_descriptions() {
    let dump = parse(GPT_DUMP);
    assert_eq!(dump.table(), TableKind::Gpt);
    assert_eq!(dump.header().sector, Some(SectorSize::B512));
    let [efi, swap] = dump.entries() else { panic!("{dump:?}") };
    assert_eq!((efi.number, efi.start, efi.size), (1, Some(Length::Sectors(2048)), sectors(204_800)));
    assert!(efi.kind.is_esp() && swap.kind.is_swap());
    assert_eq!(efi.name, "EFI é");
    assert_eq!(efi.attributes, 1 | 1 << 63);
    assert_eq!(efi.uuid.unwrap().to_string(), "1168e7b1-4812-bd4b-a461-6c13dad09b2f");
    assert_eq!((swap.number, swap.line), (4, 10));
    assert_eq!(dump.render(Format::Sfdisk).text, GPT_DUMP);
}

#[test]
fn dumps_of_mbrs_are_descriptions() {
    let text = "label: dos\nlabel-id: 0x0badcafe\ndevice: /dev/sda\nunit: sectors\nsector-size: 512\n\n\
        /dev/sda1 : start=          63, size=        1000, type=7, bootable\n\
        /dev/sda2 : start=        2048, size=       90000, type=f\n\
        /dev/sda5 : start=        4096, size=       10000, type=83\n";
    let dump = parse(text);
    assert_eq!(dump.header().id, Some(DiskId::Mbr(DiskSignature(0x0bad_cafe))));
    let roles: Vec<_> = dump.entries().iter().map(|e| (e.number, e.role, e.bootable)).collect();
    assert_eq!(roles, [(1, Role::Primary, true), (2, Role::Extended, false), (5, Role::Logical, false)]);
    assert_eq!(dump.render(Format::Sfdisk).text, text);
}

/// sfdisk before 2.26 wrote `Id=`, and unused places too.
#[test]
fn old_dumps_are_descriptions() {
    let text = "# partition table of /dev/sda\nunit: sectors\n\n\
        /dev/sda1 : start=       63, size= 31455207, Id=83, bootable\n\
        /dev/sda2 : start= 31455270, size=  2088450, Id= 5\n\
        /dev/sda3 : start=        0, size=        0, Id= 0\n\
        /dev/sda4 : start=        0, size=        0, Id= 0\n\
        /dev/sda5 : start= 31455333, size=  2088387, Id=82\n";
    let dump = parse(text);
    assert_eq!(dump.entries().iter().map(|e| e.number).collect::<Vec<_>>(), [1, 2, 5]);
}

#[test]
fn fields_may_have_no_names() {
    let script = parse("2048,100M,U,*\n,0x800\n;\n- 300MiB S -\n");
    let read: Vec<_> = script.entries().iter().map(|e| (e.number, e.start, e.size, e.bootable)).collect();
    assert_eq!(
        read,
        [
            (1, Some(Length::Sectors(2048)), Size::mb(100), true),
            (2, None, sectors(2048), false),
            (3, None, Size::Fill { weight: 1 }, false),
            (4, None, Size::mb(300), false),
        ]
    );
    let kinds: Vec<_> = script.entries().iter().map(|e| e.kind.to_string()).collect();
    assert_eq!(kinds, ["ef", "83", "83", "82"]);
}

#[test]
fn types_have_shortcuts_aliases_and_names() {
    let table = [
        ("L", "83"),
        ("linux", "83"),
        ("S", "82"),
        ("E", "5"),
        ("Ex", "5"),
        ("extended", "5"),
        ("0e", "e"),
        ("0x8E", "8e"),
        ("V", "8e"),
        ("R", "fd"),
        ("X", "85"),
        ("\"Linux swap / Solaris\"", "82"),
        ("\"w95 fat32 lba\"", "c"),
    ];
    for (text, kind) in table {
        assert_eq!(parse(&format!("size=1M, type={text}")).entries()[0].kind.to_string(), kind, "{text}");
    }
    let table = [
        ("H", "933AC7E1-2EB4-4F13-B844-0E14E2AEF915"),
        ("uefi", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
        ("\"bios-boot\"", "21686148-6449-6E6F-744E-656564454649"),
        ("\"Linux root (x86-64)\"", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"),
        ("0fc63daf-8483-4772-8e79-3d69d8477de4", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"),
    ];
    for (text, kind) in table {
        let script = format!("label: gpt\nsize=1M, type={text}");
        assert_eq!(parse(&script).entries()[0].kind.to_string(), kind, "{text}");
    }
    assert_eq!(PartitionKind::Mbr(0x83).in_table(TableKind::Gpt), Some(PartitionKind::linux(TableKind::Gpt)));
    assert_eq!(PartitionKind::Mbr(0x07).name(), Some("HPFS/NTFS/exFAT"));
}

/// As sfdisk places them: the script of its manual page's kind.
#[test]
fn what_is_logical_follows_from_number_start_or_what_is_left() {
    let roles = |text: &str| -> Vec<_> {
        parse(text)
            .entries()
            .iter()
            .map(|e| (e.number, e.role))
            .filter(|(_, r)| *r != Role::Primary)
            .collect()
    };
    assert_eq!(roles(",100M\n,,E\n,20M\n,,L"), [(2, Role::Extended), (5, Role::Logical), (6, Role::Logical)]);
    assert_eq!(roles("1M,100M,L\n,200M,E\n,50M,L\n,60M,S"), [(2, Role::Extended)]);
    assert_eq!(roles(",1M\n,1M\n,1M\n,100M,E\n,20M"), [(4, Role::Extended), (5, Role::Logical)]);
    assert_eq!(
        roles("start=2048,size=8192,type=5\nstart=4096,size=1000\nstart=20000,size=5"),
        [(1, Role::Extended), (5, Role::Logical)]
    );
    // The lines may come in any order if they have numbers.
    assert_eq!(roles("sda5: size=1M\nsda2: size=9M, type=5"), [(2, Role::Extended), (5, Role::Logical)]);
}

#[test]
fn shares_have_weights() {
    let script = parse("label: gpt\nsize=fill\nsize=fill*3, type=home\n,fill*2");
    let weights: Vec<_> = script.entries().iter().map(|e| e.size).collect();
    assert_eq!(weights, [1, 3, 2].map(|weight| Size::Fill { weight }));
    let text = script.render(Format::Sfdisk).text;
    assert!(text.contains("disk2 : size=fill*3, type=933AC7E1"), "{text}");
    assert_eq!(parse(&text).entries()[1].size, Size::Fill { weight: 3 });
}

#[test]
fn errors_name_file_line_column_and_what_was_expected() {
    let table = [
        ("label: sun\n,1M", "script:1:8: expected `label: dos` or `label: gpt`, found `sun`"),
        ("label: gpt\n", "script:1:1: expected at least one partition"),
        ("unit: cylinders\n,1M", "script:1:7: expected `sectors` for `unit:`, found `cylinders`"),
        ("  colour: red\n,1M", "script:1:3: expected one of the headers label, "),
        ("label: gpt\nlabel-id: 0x12\n,1M", "script:2:11: expected a GUID for `label-id:`, found `0x12`"),
        ("label-id: 123456789012\n,1M", "script:1:11: expected a number of 32 bits such as 0x1a2b3c4d"),
        ("sector-size: 513\n,1M", "script:1:14: expected 512, 1024, 2048 or 4096 for `sector-size:`"),
        ("label: gpt\ntable-length: 0\n,1M", "script:2:15: expected a number from 1 to 1024"),
        (
            "size=1M\nlabel: gpt\n",
            "script:2:1: expected headers before the first partition only, found `label:`",
        ),
        (
            "size=1M, colour=red",
            "script:1:10: expected start=, size=, type=, name=, uuid=, attrs= or bootable, found `colour`",
        ),
        ("size=1M, boot", "script:1:10: expected start=, size=, "),
        (
            "size=5X",
            "script:1:6: expected a number of sectors, or one followed by KiB, MiB, GiB, TiB or PiB, or `fill`, found `5X`",
        ),
        ("start=é, size=1", "script:1:7: expected a number of sectors"),
        ("é=1, size=5X", "script:1:1: expected start=, "),
        ("name=\"é\", size=5X\n", "script:1:16: expected a number of sectors"),
        ("size=0", "script:1:6: expected a number of sectors, "),
        ("start=2048, size=0KiB", "script:1:18: expected a size"),
        (",0,L", "script:1:2: expected a number of sectors, "),
        ("size=1M, Id=0", "script:1:13: expected a partition type from 1 to ff"),
        (",1M,ee", "script:1:5: expected a partition type from 1 to ff"),
        ("size=1M, attrs=GUID:60", "script:1:10: `attrs=` belongs to a GPT"),
        ("label: gpt\n,1M,L,*", "script:2:7: `bootable` belongs to a MBR"),
        ("label: gpt\nsize=1M, name=\"\\x00\"", "script:2:16: expected a name of at most 36 characters"),
        ("size=+5M", "script:1:6: `+5M` changes an existing partition: expected an absolute number"),
        ("start=-5M, size=1M", "script:1:7: `-5M` changes"),
        ("size=fill*0", "script:1:6: expected a weight from 1 to 1000 after `fill*`, found `0`"),
        ("size=1M, type=quux", "script:1:15: expected a type of a MBR: two hex digits, an alias such as"),
        ("label: gpt\nsize=1M, type=83", "script:2:15: expected a type of a GPT: a GUID, an alias such as"),
        ("label: gpt\nsize=1M, type=E", "script:2:15: expected a type of a GPT"),
        (
            "size=1M, type=ee",
            "script:1:15: expected a partition type from 1 to ff, found `typeee`, which is the mark of a GPT",
        ),
        ("size=1M, type=0", "script:1:15: expected a partition type from 1 to ff"),
        ("label: gpt\nsize=1M, uuid=5", "script:2:15: expected a GUID such as"),
        (
            "size=1M, uuid=1168E7B1-4812-BD4B-A461-6C13DAD09B2F",
            "script:1:10: `uuid=` belongs to a GPT, and this is a MBR",
        ),
        ("size=1M, name=x", "script:1:10: `name=` belongs to a GPT"),
        (
            "label: gpt\nsize=1M, bootable",
            "script:2:10: `bootable` belongs to a MBR, and this is a GPT: write attrs=LegacyBIOSBootable",
        ),
        ("label: gpt\nsize=1M, attrs=Shiny", "script:2:16: expected RequiredPartition, "),
        ("label: gpt\nsize=1M, name=\"abc", "script:2:15: expected a `\"` at the end of `\"abc`"),
        ("label: gpt\nsize=1M, name=\"\\xff\"", "script:2:16: expected a name of at most 36 characters"),
        (
            "label: gpt\nsize=1M, name=1234567890123456789012345678901234567",
            "script:2:15: expected a name of at most 36",
        ),
        (",1M,L,x", "script:1:7: expected `*` (bootable), `-` or nothing, found `x`"),
        (",1M,L,*,5", "script:1:9: expected the end of the line or a `#` comment, found `5`"),
        (
            "sda1 : size=1M\nsda1 : size=2M",
            "script:2:1: expected each partition once, found a second 1; the first is in line 1",
        ),
        (
            "sda : size=1M",
            "script:1:1: expected the name of a partition, such as /dev/sda1, before `:`, found `sda`",
        ),
        ("sda5 : size=1M", "script:1:1: expected an `extended` partition"),
        ("sda1 : size=9M, type=5\nsda6 : size=1M", "script:2:1: expected partition number 5, found 6"),
        ("label: gpt\nsda129 : size=1M", "script:2:1: expected a partition number from 1 to 128, found 129"),
        // Linux has no number for it.
        (
            "label: gpt\ntable-length: 1024\nsda256 : size=1M",
            "script:3:1: expected a partition number from 1 to 255, found 256",
        ),
        (",1M\n,1M\n,1M\n,1M\n,1M", "script:5:1: expected at most 4 primary partitions"),
        (",9M,E\n,9M,E", "script:2:1: expected at most one extended partition, found a second"),
    ];
    for (text, expected) in table {
        let found = error(text);
        assert!(found.starts_with(expected), "{text:?}\n{found}\n{expected}");
    }
}

/// sfdisk writes them with escapes, and so does ka.
#[test]
fn names_may_have_control_characters() {
    let script = parse("label: gpt\nsize=1M, name=\"a\\x09b\\x1b\"");
    assert_eq!(script.entries()[0].name, "a\tb\u{1b}");
    let text = script.render(Format::Sfdisk).text;
    assert!(text.contains("name=\"a\\x09b\\x1b\""), "{text}");
    assert_eq!(parse(&text).entries()[0].name, script.entries()[0].name);
}

#[test]
fn a_description_survives_its_travel() {
    for text in [GPT_DUMP, "linux 5\nextended fill*2\nlogical linux fill\n", "1M,+,E,*\n,1.5K\n"] {
        let description = parse(text);
        let bytes = postcard::to_stdvec(&description).unwrap();
        assert_eq!(postcard::from_bytes::<Description>(&bytes).unwrap(), description);
    }
}

/// Pieces of scripts, in any order.
fn pieces() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "label: gpt",
        "label: dos",
        "label-id: ",
        "0x1234abcd",
        "unit: sectors",
        "sector-size: 4096",
        "table-length: 8",
        "first-lba: ",
        "\n",
        "\n",
        "\n",
        "\n",
        ",",
        ",",
        ";",
        " ",
        "start=",
        "size=",
        "size=",
        "type=",
        "name=",
        "uuid=",
        "attrs=",
        "bootable",
        "*",
        "+",
        "-",
        "fill",
        "fill*3",
        "100M",
        "2048",
        "1.5G",
        "010",
        "L",
        "S",
        "E",
        "U",
        "H",
        "83",
        "5",
        "f",
        "linux",
        "\"",
        "\\x41",
        "é",
        "sda1:",
        "sda5 :",
        "/dev/sda2 : ",
        "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
        "GUID:60",
        "RequiredPartition",
        "#",
        "18446744073709551615",
    ];
    prop::collection::vec(prop::sample::select(WORDS), 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in pieces()) {
        if let Ok(description) = Description::parse(&text, "script") {
            let again = description.render(Format::Sfdisk).text;
            let again = Description::parse(&again, "again").unwrap_or_else(|e| panic!("{e}\n{again}"));
            let plain = |d: &Description| -> Vec<_> {
                d.entries().iter().cloned().map(|mut e| { e.line = 0; e }).collect()
            };
            prop_assert_eq!(plain(&description), plain(&again));
        }
    }

    #[test]
    fn any_bytes_are_a_description_or_none(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = postcard::from_bytes::<Description>(&bytes);
        let _ = Description::parse(&String::from_utf8_lossy(&bytes), "bytes");
    }
}
