//! The stream's files: a tar archive from an untrusted source.

use ka::archive::{BLOCK, Decoder, Encoder, Entry, Kind, MAX_ID, MAX_PAX, MAX_SEGMENTS, MAX_SIZE};

/// Parses any bytes as an archive: entries are within their limits, and can be written and read again.
pub(super) fn any_stream(data: &[u8]) {
    let bytes = with_checksums(data);
    let mut decoder = Decoder::new(bytes.as_slice());
    let (mut entries, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        match decoder.next_entry() {
            Ok(Some(entry)) => {
                check(&entry);
                let mut content = Vec::new();
                loop {
                    match decoder.read_data(&mut buffer) {
                        Ok(0) => break,
                        Ok(length) => content.extend_from_slice(&buffer[..length]),
                        Err(_) => return,
                    }
                }
                assert_eq!(content.len() as u64, entry.data_len());
                entries.push((entry, content));
            }
            Ok(None) => break,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
        assert!(decoder.offset() <= bytes.len() as u64);
    }
    assert_eq!(decoder.offset(), bytes.len() as u64, "all of it is read");
    assert_eq!(again(&entries), Some(entries));
}

fn check(entry: &Entry) {
    assert!(!entry.path.is_empty() && !entry.path.contains(&0));
    assert!(entry.path == b"/" || !entry.path.ends_with(b"/"), "{:?}", entry.path);
    assert!(entry.mode <= 0o7777 && entry.uid <= MAX_ID && entry.gid <= MAX_ID);
    assert!(entry.mtime.nsec < 1_000_000_000);
    assert!(entry.xattrs.iter().all(|x| !x.name.is_empty() && !x.name.contains(&0)));
    match &entry.kind {
        Kind::File { size, segments } => {
            assert!(*size <= MAX_SIZE);
            let mut end = 0;
            for segment in segments.iter().flatten() {
                assert!(segment.len > 0 && segment.offset >= end);
                end = segment.offset + segment.len;
                assert!(end <= *size);
            }
            assert!(segments.iter().flatten().count() <= MAX_SEGMENTS);
        }
        Kind::Symlink { target } | Kind::HardLink { target } => {
            assert!(!target.is_empty() && !target.contains(&0));
        }
        _ => {}
    }
}

/// Writes the entries and reads them back; `None` if this writer's format cannot hold them.
fn again(entries: &[(Entry, Vec<u8>)]) -> Option<Vec<(Entry, Vec<u8>)>> {
    // An entry longer than a pax header can be rejected, and then there is nothing to compare.
    let long = |e: &Entry| {
        let xattrs: usize = e.xattrs.iter().map(|x| 3 * x.name.len() + 5 * x.value.len() + 100).sum();
        let link = match &e.kind {
            Kind::Symlink { target } | Kind::HardLink { target } => target.len(),
            _ => 0,
        };
        e.path.len() + link + xattrs + 1000 > MAX_PAX
    };
    if entries.iter().any(|(entry, _)| long(entry)) {
        return Some(entries.to_vec());
    }
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    for (entry, content) in entries {
        encoder.entry(entry).expect("what was read can be written");
        encoder.data(content).expect("memory takes all");
    }
    encoder.finish().expect("memory takes all");
    let mut decoder = Decoder::new(bytes.as_slice());
    let mut found = Vec::new();
    while let Some(entry) = decoder.next_entry().expect("what was written can be read") {
        let mut content = vec![0; usize::try_from(entry.data_len()).ok()?];
        let mut filled = 0;
        while filled < content.len() {
            filled += decoder.read_data(&mut content[filled..]).expect("its data is there");
        }
        found.push((entry, content));
    }
    Some(found)
}

/// Fills in the checksums of headers, without which nothing after them would ever be tested: wherever a block
/// has `CHKSUM` in the checksum's place.
pub(super) fn with_checksums(data: &[u8]) -> Vec<u8> {
    const FIELD: std::ops::Range<usize> = 148..156;
    const MARK: &[u8] = b"CHKSUM";
    let mut bytes = data.to_vec();
    for block in bytes.chunks_exact_mut(BLOCK).filter(|block| block[FIELD].starts_with(MARK)) {
        block[FIELD].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[FIELD].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}
