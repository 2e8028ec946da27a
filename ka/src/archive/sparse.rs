//! The maps of sparse files, in each form that tars write.

use super::entry::Segment;
use super::{BLOCK, MAX_SEGMENTS, MAX_SIZE};

/// The map before a file's data in GNU's sparse format 1.0: the number of segments, then the offset and
/// length of each, one decimal number per line, padded to whole blocks.
pub(super) fn to_text(size: u64, segments: &[Segment]) -> Vec<u8> {
    let end = segments.last().map_or(0, |s| s.offset.saturating_add(s.len));
    // GNU tar takes a file's size from its last segment, so a hole at the end needs an empty one.
    let last = (end < size).then_some(Segment { offset: size, len: 0 });
    let mut text = format!("{}\n", segments.len() + usize::from(last.is_some())).into_bytes();
    for s in segments.iter().chain(&last) {
        text.extend(format!("{}\n{}\n", s.offset, s.len).as_bytes());
    }
    text.resize(text.len().next_multiple_of(BLOCK), 0);
    text
}

/// Reads such a map block by block.
#[derive(Default)]
pub(super) struct TextMap {
    expected: Option<usize>,
    offset: Option<u64>,
    number: Option<u64>,
    map: Map,
}

impl TextMap {
    /// Takes the next block, and returns whether the map ends in it.
    pub(super) fn block(&mut self, block: &[u8; BLOCK]) -> Result<bool, String> {
        for &byte in block {
            match byte {
                b'0'..=b'9' => {
                    let number = self.number.unwrap_or(0).checked_mul(10);
                    let number = number.and_then(|n| n.checked_add(u64::from(byte - b'0')));
                    self.number = Some(number.ok_or("a number in its sparse map is too large")?);
                }
                b'\n' => {
                    let number = self.number.take().ok_or("its sparse map has an empty line")?;
                    if self.line(number)? {
                        return Ok(true);
                    }
                }
                _ => return Err("its sparse map is not a list of numbers".to_owned()),
            }
        }
        Ok(false)
    }

    fn line(&mut self, number: u64) -> Result<bool, String> {
        let Some(expected) = self.expected else {
            // The last one may be the empty segment that marks the end.
            let count = usize::try_from(number).ok().filter(|&n| n <= MAX_SEGMENTS + 1);
            self.expected = Some(count.ok_or_else(too_many)?);
            return Ok(number == 0);
        };
        match self.offset.take() {
            None => self.offset = Some(number),
            Some(offset) => self.map.push(offset, number)?,
        }
        Ok(self.map.pairs == expected)
    }

    /// The map, once it is complete.
    pub(super) fn finish(self) -> Map {
        self.map
    }
}

/// A map while it is read; its values are checked at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Map {
    segments: Vec<Segment>,
    /// The pairs read so far, including empty segments.
    pairs: usize,
}

impl Map {
    /// Adds a segment.
    pub(super) fn push(&mut self, offset: u64, len: u64) -> Result<(), String> {
        self.pairs += 1;
        if self.pairs > MAX_SEGMENTS + 1 {
            return Err(too_many());
        }
        if len > 0 {
            self.segments.push(Segment { offset, len });
        }
        Ok(())
    }

    /// Bytes of memory that it takes.
    pub(super) fn held(&self) -> usize {
        self.segments.len() * size_of::<Segment>()
    }

    /// Parses `offset,length,offset,length…`, the form of format 0.1.
    pub(super) fn from_list(text: &[u8]) -> Result<Self, String> {
        let mut map = Self::default();
        let mut offset = None;
        for field in text.split(|&b| b == b',') {
            let number = super::number(field).ok_or("its sparse map is not a list of numbers")?;
            match offset.take() {
                None => offset = Some(number),
                Some(offset) => map.push(offset, number)?,
            }
        }
        if offset.is_some() {
            return Err("its sparse map has an offset without a length".to_owned());
        }
        Ok(map)
    }

    /// The segments of a file of `size` bytes.
    pub(super) fn check(self, size: u64) -> Result<Vec<Segment>, String> {
        check(size, &self.segments)?;
        Ok(self.segments)
    }
}

/// Whether this is the map of a file of `size` bytes.
pub(super) fn check(size: u64, segments: &[Segment]) -> Result<(), String> {
    if size > MAX_SIZE {
        return Err(format!("its size, {size} bytes, is beyond any file's"));
    }
    if segments.len() > MAX_SEGMENTS {
        return Err(too_many());
    }
    let mut end = 0;
    for s in segments {
        let next = s.offset.checked_add(s.len).filter(|&next| next <= size);
        match next {
            Some(next) if s.offset >= end && s.len > 0 => end = next,
            _ => return Err(format!("its sparse map does not fit a file of {size} bytes")),
        }
    }
    Ok(())
}

fn too_many() -> String {
    format!("its sparse map has more than {MAX_SEGMENTS} segments")
}
