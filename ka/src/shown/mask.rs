//! Masks bytes without moving others.

use super::filter::is_begun;
use super::is_hostile;

/// How many bytes before and after a piece may belong to a character that is partly in it.
pub const CONTEXT: usize = 3;

/// Overwrites each byte of a hostile character with `?` in a piece of another machine's log, without changing
/// its length. The first `before` bytes are the ones that preceded the piece: there, the end of a character
/// may lack its start. A character that starts at the end of the piece and continues beyond it is left alone;
/// it is checked again with the next piece.
pub fn mask(bytes: &mut [u8], before: usize) {
    let mut hostile = Vec::new();
    let mut at = 0;
    let length = bytes.len();
    for chunk in bytes.utf8_chunks() {
        for (offset, c) in chunk.valid().char_indices() {
            if !matches!(c, '\n' | '\t') && is_hostile(c) {
                hostile.push(at + offset..at + offset + c.len_utf8());
            }
        }
        at += chunk.valid().len();
        let invalid = chunk.invalid();
        let is_end = at + invalid.len() == length && is_begun(invalid);
        let is_rest = at < before && invalid.iter().all(|byte| matches!(byte, 0x80..=0xbf));
        if !is_end && !is_rest {
            hostile.push(at..at + invalid.len());
        }
        at += invalid.len();
    }
    for range in hostile {
        bytes[range].fill(b'?');
    }
}
