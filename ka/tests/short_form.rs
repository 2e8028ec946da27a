//! The grammar of descriptions, by tables of what is right and what is told about what is wrong.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::{Description, Format, Size};
use ka::disk::kind::PartitionKind;
use proptest::prelude::*;

fn error(text: &str) -> String {
    Description::parse(text, "desc").unwrap_err().to_string()
}

#[test]
fn reads_types_sizes_comments_and_blank_lines() {
    let text = "# a disk\r\n\n\tlinux 3500 # root\r\nswap\t500\ntype8E 1#raid\n  type83 fill";
    let desc = Description::parse(text, "desc").unwrap();
    let read: Vec<_> = desc.entries().iter().map(|e| (e.number, e.kind, e.size, e.line)).collect();
    assert_eq!(
        read,
        [
            (1, PartitionKind::Mbr(0x83), Size::mb(3500), 3),
            (2, PartitionKind::Mbr(0x82), Size::mb(500), 4),
            (3, PartitionKind::Mbr(0x8e), Size::mb(1), 5),
            (4, PartitionKind::Mbr(0x83), Size::Fill { weight: 1 }, 6),
        ]
    );
}

#[test]
fn numbers_logicals_from_five() {
    let text = "linux 3500\nextended fill\nlogical swap 500\nlogical linux fill\n";
    let desc = Description::parse(text, "desc").unwrap();
    let numbers: Vec<_> = desc.entries().iter().map(|e| e.number).collect();
    assert_eq!(numbers, [1, 2, 5, 6]);
    assert_eq!(desc.to_string(), text);
}

#[test]
fn errors_name_file_line_column_and_what_was_expected() {
    let table = [
        ("", "desc:1:1: expected at least one partition, such as `linux fill`, found none"),
        ("\n# nothing\n", "desc:2:1: expected at least one partition, such as `linux fill`, found none"),
        (
            "linux 1\n\nlinus 5",
            "desc:3:1: expected `linux`, `swap`, `extended`, `type<hex>` (such as `type83`) or `logical`, found `linus`",
        ),
        ("  linux", "desc:1:8: expected a size in MB or `fill`, found the end of the line"),
        ("linux  # 5", "desc:1:6: expected a size in MB or `fill`, found the end of the line"),
        ("linux 0", "desc:1:7: expected a size in MB (a number from 1 to 4294967295) or `fill`, found `0`"),
        ("linux -5", "desc:1:7: expected a size in MB (a number from 1 to 4294967295) or `fill`, found `-5`"),
        ("linux +5", "desc:1:7: expected a size in MB (a number from 1 to 4294967295) or `fill`, found `+5`"),
        (
            "é 5",
            "desc:1:1: expected `linux`, `swap`, `extended`, `type<hex>` (such as `type83`) or `logical`, found `é`",
        ),
        (
            "linux\u{a0}é99999999999",
            "desc:1:7: expected a size in MB (a number from 1 to 4294967295) or `fill`, found `é99999999999`",
        ),
        ("linux 5 GB", "desc:1:9: expected the end of the line or a `#` comment, found `GB`"),
        (
            "linux 5G B",
            "desc:1:7: expected a size in MB (a number from 1 to 4294967295) or `fill`, found `5G`",
        ),
        ("logical", "desc:1:8: expected a type after `logical`, found the end of the line"),
        (
            "type0 5",
            "desc:1:1: expected a partition type from 1 to ff, found `type0`, which is an unused place in the table",
        ),
        (
            "type05 5",
            "desc:1:1: expected a partition type from 1 to ff, found `type05`, which is an extended partition: write `extended`",
        ),
        (
            "type5g 1",
            "desc:1:1: expected `linux`, `swap`, `extended`, `type<hex>` (such as `type83`) or `logical`, found `type5g`",
        ),
        (
            "type083 1",
            "desc:1:1: expected `linux`, `swap`, `extended`, `type<hex>` (such as `type83`) or `logical`, found `type083`",
        ),
        (
            "linux 1\nlinux 1\nlinux 1\nlinux 1\n swap 1",
            "desc:5:2: expected at most 4 primary partitions (the extended one counts), found a fifth",
        ),
        (
            "logical linux 5",
            "desc:1:1: expected an `extended` partition in a line before the first `logical` one",
        ),
        (
            "extended 9\nextended 9",
            "desc:2:1: expected at most one extended partition, found a second; the first is in line 1",
        ),
        (
            "extended 9\nlogical extended 3",
            "desc:2:9: expected `linux`, `swap` or `type<hex>` after `logical`, found `extended`",
        ),
        ("linux fill*0", "desc:1:7: expected a weight from 1 to 1000 after `fill*`, found `0`"),
        ("linux fill*", "desc:1:7: expected a weight from 1 to 1000 after `fill*`, found ``"),
        ("linux fill*1001", "desc:1:7: expected a weight from 1 to 1000 after `fill*`, found `1001`"),
        (
            "linux filling",
            "desc:1:7: expected a size in MB (a number from 1 to 4294967295) or `fill`, found `filling`",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(error(text), expected, "{text:?}");
    }
}

#[test]
fn more_logicals_than_the_kernel_takes_are_refused() {
    let text = format!("extended fill\n{}", "logical linux 1\n".repeat(61));
    assert!(error(&text).starts_with("desc:62:1: expected at most 60 logical partitions"));
}

/// What travels in a plan is checked like what is read from a file.
#[test]
fn a_forged_description_is_refused_by_serde() {
    let desc = Description::parse("linux 5\nswap fill\n", "desc").unwrap();
    let bytes = postcard::to_stdvec(&desc).unwrap();
    assert_eq!(postcard::from_bytes::<Description>(&bytes).unwrap(), desc);
    // The number of the first entry, behind the header and the count of entries.
    let mut forged = bytes;
    assert_eq!(forged[8..10], [2, 1]);
    forged[9] = 2;
    assert!(postcard::from_bytes::<Description>(&forged).is_err());
}

#[test]
fn several_partitions_share_by_weight() {
    let desc = Description::parse("linux fill\nlinux fill*3\n", "desc").unwrap();
    let sizes: Vec<_> = desc.entries().iter().map(|e| e.size).collect();
    assert_eq!(sizes, [Size::Fill { weight: 1 }, Size::Fill { weight: 3 }]);
    assert_eq!(desc.to_string(), "linux fill\nlinux fill*3\n");
}

#[test]
fn what_the_short_form_cannot_say_is_told() {
    let script =
        "label: gpt\nsize=100M, type=uefi, name=\"EFI\"\nsize=+, type=linux\ntype=\"BIOS boot\", size=1M";
    let rendered = Description::parse(script, "script").unwrap().render(Format::Desc);
    assert_eq!(rendered.text, "typeef 100\nlinux fill\nlinux 1\n");
    assert_eq!(
        rendered.missing,
        [
            "the table is a GPT, and this form describes an MBR",
            "partition 1 has the name \"EFI\"",
            "partition 3 is 21686148-6449-6E6F-744E-656564454649, which has no type in an MBR",
        ]
    );
    let gaps = Description::parse("sda1 : size=1M\nsda3 : size=1025K, bootable", "script").unwrap();
    let rendered = gaps.render(Format::Desc);
    assert_eq!(rendered.text, "linux 1\nlinux 2\n");
    assert_eq!(rendered.missing.len(), 3, "{rendered:?}");
    for (kind, missing) in [
        ("5", &[][..]),
        ("f", &["partition 1 has the type f"][..]),
        ("85", &["partition 1 has the type 85"][..]),
    ] {
        let script = format!("sda1 : size=9M, type={kind}\nsda5 : size=1M");
        let rendered = Description::parse(&script, "script").unwrap().render(Format::Desc);
        assert_eq!(rendered.text, "extended 9\nlogical linux 1\n");
        assert_eq!(rendered.missing, missing);
    }
}

fn line() -> impl Strategy<Value = String> {
    let kind = prop_oneof![
        Just("linux".to_owned()),
        Just("swap".to_owned()),
        (6..0x0f_u8).prop_map(|t| format!("type{t:x}"))
    ];
    (kind, 1..5000_u32).prop_map(|(kind, mb)| format!("{kind} {mb}\n"))
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(
        primaries in prop::collection::vec(line(), 0..3),
        logicals in prop::collection::vec(line(), 0..20),
    ) {
        let mut text = primaries.concat() + "extended fill\n";
        logicals.iter().for_each(|line| text += &format!("logical {line}"));
        let desc = Description::parse(&text, "desc").unwrap();
        prop_assert_eq!(desc.to_string(), text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "([a-z0-9# \n\r\té]|linux|swap|fill|extended|logical|type){0,40}") {
        if let Ok(desc) = Description::parse(&text, "desc") {
            let again = Description::parse(&desc.to_string(), "again").unwrap();
            prop_assert_eq!(again.entries().len(), desc.entries().len());
        }
    }
}
