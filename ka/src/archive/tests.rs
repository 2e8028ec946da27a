//! Entries through encoder and decoder, and archives damaged in transit.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Bytes without NUL, as names are.
fn name(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    vec(1..=255_u8, len)
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![name(1..20), name(90..110), name(150..700)].prop_map(|mut path| {
        path.push(b'x');
        path
    })
}

fn segments() -> impl Strategy<Value = Kind> {
    (vec((1..9_u64, 1..3000_u64), 0..40), 0..2_u64 << 33).prop_map(|(parts, tail)| {
        let mut end = 0;
        let mut segments = Vec::new();
        for (hole, len) in parts {
            segments.push(Segment { offset: end + hole * 4096, len });
            end += hole * 4096 + len;
        }
        Kind::File { size: end + tail, segments: Some(segments) }
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => (0..3000_u64).prop_map(|size| Kind::File { size, segments: None }),
        4 => segments(),
        1 => Just(Kind::Directory),
        1 => path().prop_map(|target| Kind::Symlink { target }),
        1 => path().prop_map(|target| Kind::HardLink { target }),
        1 => (0..4096_u32, 0..1_u32 << 20).prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        1 => (0..4096_u32, 0..1_u32 << 20).prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        1 => Just(Kind::Fifo),
    ]
}

prop_compose! {
    fn entry()(
        path in path(),
        kind in kind(),
        mode in 0..0o10000_u32,
        ids in (0..=MAX_ID, 0..=MAX_ID),
        small in any::<bool>(),
        sec in prop_oneof![any::<i64>(), -3..3_i64, 0..1_i64 << 34],
        nsec in prop_oneof![Just(0), 0..1_000_000_000_u32],
        bits in (any::<u32>(), any::<u32>()),
        numbers in (0..3_u32, 0..2_u32, any::<u32>()),
        xattrs in proptest::collection::btree_map(name(1..30), vec(any::<u8>(), 0..200), 0..4),
    ) -> Entry {
        let (uid, gid) = if small { (ids.0 & 0xffff, ids.1 & 0xffff) } else { ids };
        let xattrs = xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect();
        let traits = Traits {
            flags: Flags::of_kernel(bits.0, bits.1),
            project: numbers.2 * numbers.0.min(1),
            extent_size: numbers.1 * 65_536,
            cow_extent_size: numbers.0,
        };
        Entry { path, kind, mode, uid, gid, mtime: Time { sec, nsec }, xattrs, traits, partition: None }
    }
}

/// The archive of `entries`, each with data that identifies its position.
fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    for entry in entries {
        encoder.entry(entry).unwrap();
        encoder.data(&data(entry)).unwrap();
    }
    encoder.finish().unwrap();
    assert_eq!(encoder.offset() % BLOCK as u64, 0);
    bytes
}

fn data(entry: &Entry) -> Vec<u8> {
    (0..entry.data_len()).map(|i| entry.path[0].wrapping_add((i % 251) as u8)).collect()
}

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, ArchiveError> {
    let mut decoder = Decoder::new(bytes);
    let mut all = Vec::new();
    while let Some(entry) = decoder.next_entry()? {
        let (mut data, mut buf) = (Vec::new(), [0; 700]);
        loop {
            match decoder.read_data(&mut buf)? {
                0 => break,
                got => data.extend(&buf[..got]),
            }
        }
        all.push((entry, data));
    }
    assert_eq!(decoder.offset(), bytes.len() as u64);
    Ok(all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(entries in vec(entry(), 0..6)) {
        let bytes = archive(&entries);
        let back = read(&bytes).unwrap();
        let expected: Vec<_> = entries.iter().map(|e| (e.clone(), data(e))).collect();
        prop_assert_eq!(&back, &expected);
        let again: Vec<_> = back.into_iter().map(|(entry, _)| entry).collect();
        prop_assert_eq!(archive(&again), bytes);
    }

    #[test]
    fn data_may_be_skipped(entries in vec(entry(), 0..6)) {
        let bytes = archive(&entries);
        let mut decoder = Decoder::new(bytes.as_slice());
        for entry in &entries {
            let next = decoder.next_entry().unwrap();
            prop_assert_eq!(next.as_ref(), Some(entry));
        }
        prop_assert_eq!(decoder.next_entry().unwrap(), None);
        prop_assert_eq!(decoder.next_entry().unwrap(), None);
    }

    #[test]
    fn a_cut_archive_is_never_whole(entries in vec(entry(), 1..4), at in any::<prop::sample::Index>()) {
        let bytes = archive(&entries);
        let cut = &bytes[..at.index(bytes.len())];
        let told = matches!(read(cut), Err(ArchiveError::Truncated { offset, .. }) if offset == cut.len() as u64);
        prop_assert!(told);
    }

    /// Checksums are corrected, so that the damage gets past them.
    #[test]
    fn damage_never_panics(
        entries in vec(entry(), 1..4),
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        sums in any::<bool>(),
    ) {
        let mut bytes = archive(&entries);
        let len = bytes.len();
        for (at, byte) in hits {
            // Most bytes of an archive are data; headers and records are the interesting targets.
            let at = if byte % 2 == 0 { at.index(len) } else { at.index(len.min(1536)) };
            bytes[at] = byte;
        }
        if sums {
            for block in bytes.chunks_exact_mut(BLOCK).filter(|b| b[257..262] == *b"ustar") {
                let mut header = tar::Header::from_byte_slice(block).clone();
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        drop(read(&bytes));
    }

    #[test]
    fn noise_never_panics(mut bytes in vec(any::<u8>(), 0..4096), kind in prop::sample::select(b"01234567LKSxgVDMX\0".to_vec())) {
        if let Some(block) = bytes.get_mut(..BLOCK) {
            block[156] = kind;
            block[124..136].copy_from_slice(b"00000001000\0");
            let mut header = tar::Header::from_byte_slice(block).clone();
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        drop(read(&bytes));
    }
}

fn plain(path: &[u8], kind: Kind) -> Entry {
    Entry {
        path: path.to_vec(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
        traits: Traits::default(),
        partition: None,
    }
}

#[test]
fn a_file_beyond_8_gib_keeps_its_size() {
    let size = 9 << 30;
    let entry = plain(b"./large", Kind::File { size, segments: None });
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes).entry(&entry).unwrap();
    let mut decoder = Decoder::new(bytes.as_slice());
    assert_eq!(decoder.next_entry().unwrap(), Some(entry));
    assert!(matches!(decoder.next_entry(), Err(ArchiveError::Truncated { .. })));
}

#[test]
fn the_end_must_be_whole_and_the_last() {
    let bytes = archive(&[plain(b"./a", Kind::Directory)]);
    assert_eq!(read(&[&bytes[..], &[0; 20_000]].concat()).unwrap().len(), 1);
    let mut stray = [&bytes[..], &[0; 9000]].concat();
    stray[bytes.len() + 600] = 1;
    let offset = bytes.len() as u64 + 600;
    assert!(matches!(read(&stray), Err(ArchiveError::Trailing { offset: o }) if o == offset));
    let one_zero_block = [&bytes[..512], &[0; 512], &bytes[..]].concat();
    assert!(matches!(read(&one_zero_block), Err(ArchiveError::Malformed { offset: 512, .. })));
    assert!(matches!(read(b""), Err(ArchiveError::Truncated { offset: 0, .. })));
}

#[test]
fn an_encoder_holds_everybody_to_the_announced_size() {
    let entry = plain(b"./a", Kind::File { size: 5, segments: None });
    let mut encoder = Encoder::new(Vec::new());
    encoder.entry(&entry).unwrap();
    encoder.data(b"1234").unwrap();
    assert!(matches!(encoder.data(b"56"), Err(ArchiveError::Unfit { .. })));
    assert!(matches!(encoder.finish(), Err(ArchiveError::Unfit { .. })));
}

#[test]
fn what_cannot_be_in_an_archive_is_refused() {
    let segment = |offset, len| Segment { offset, len };
    let sparse = |size, segments: &[_]| Kind::File { size, segments: Some(segments.to_vec()) };
    for bad in [
        plain(b"", Kind::Directory),
        plain(b"a\0b", Kind::Directory),
        plain(b"a/", Kind::Directory),
        plain(b"a", Kind::Symlink { target: Vec::new() }),
        plain(b"a", Kind::CharDevice { major: 1, minor: 1 << 21 }),
        plain(b"a", Kind::File { size: u64::MAX, segments: None }),
        plain(b"a", sparse(10, &[segment(5, 6)])),
        plain(b"a", sparse(10, &[segment(5, 0)])),
        plain(b"a", sparse(10, &[segment(5, 2), segment(6, 1)])),
        plain(b"a", sparse(10, &[segment(u64::MAX, 2)])),
        Entry { gid: u32::MAX, ..plain(b"a", Kind::Fifo) },
        Entry { mtime: Time { sec: 0, nsec: 1_000_000_000 }, ..plain(b"a", Kind::Fifo) },
    ] {
        let result = Encoder::new(Vec::new()).entry(&bad);
        assert!(matches!(result, Err(ArchiveError::Unfit { .. })), "{:?}", shown(&bad.path));
    }
}

/// An archive of records and an empty file after them.
fn with_records(kind: tar::EntryType, records: &[u8]) -> Vec<u8> {
    let mut header = block::of_pax(b"records", records.len() as u64);
    header.set_entry_type(kind);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(records);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes.extend(archive(&[plain(b"./file", Kind::File { size: 0, segments: None })]));
    bytes
}

#[test]
fn global_records_hold_until_they_are_taken_back() {
    let mut global = Vec::new();
    pax::push(&mut global, b"comment", b"from git archive");
    pax::push(&mut global, b"uid", b"77");
    let first = with_records(tar::EntryType::XGlobalHeader, &global);
    let mut local = Vec::new();
    pax::push(&mut local, b"uid", b"");
    let second = with_records(tar::EntryType::XHeader, &local);
    let both = [&first[..first.len() - 1024], &second[..]].concat();
    let ids: Vec<_> = read(&both).unwrap().into_iter().map(|(e, _)| e.uid).collect();
    assert_eq!(ids, [77, 0]);
}

#[test]
fn global_records_are_not_gathered_without_end() {
    let mut bytes = Vec::new();
    for i in 0..40 {
        let mut records = Vec::new();
        pax::push(&mut records, format!("SCHILY.xattr.user.{i}").as_bytes(), &vec![0; 32 << 10]);
        let one = with_records(tar::EntryType::XGlobalHeader, &records);
        bytes.extend(&one[..one.len() - 2 * BLOCK]);
    }
    assert!(read(&bytes).unwrap_err().to_string().contains("more than a mebibyte"));
}

#[test]
fn an_extended_header_has_a_limit_and_an_entry() {
    // A size that is too large is refused at once, and an announced size takes no memory.
    for (kind, size, said) in [
        (tar::EntryType::XHeader, MAX_PAX + 1, "larger than 1024 MiB"),
        (tar::EntryType::XGlobalHeader, MAX_NAME + 1, "larger than 1 MiB"),
        (tar::EntryType::GNULongName, MAX_NAME + 1, "larger than 1 MiB"),
        (tar::EntryType::XHeader, MAX_PAX, "cut off"),
    ] {
        let mut header = block::of_pax(b"large", size as u64);
        header.set_entry_type(kind);
        header.set_cksum();
        let error = read(&[&header.as_bytes()[..], &[b'x'; 2000]].concat()).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let mut lone = with_records(tar::EntryType::XHeader, b"");
    lone.drain(512..1024);
    let error = read(&lone).unwrap_err();
    assert!(error.to_string().contains("without an entry"), "{error}");
}

#[test]
fn an_error_says_where_and_of_what() {
    let mut records = Vec::new();
    pax::push(&mut records, b"path", b"./caf\xc3\xa9\n");
    pax::push(&mut records, b"uid", b"4294967295");
    let error = read(&with_records(tar::EntryType::XHeader, &records)).unwrap_err();
    let text = error.to_string();
    assert_eq!(text, "byte 1024 of the archive, ./café\\n: its owner, 4294967295, is not valid on Linux");
}
