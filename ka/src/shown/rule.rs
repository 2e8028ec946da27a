//! The rule for characters that are not displayed.

use unicode_width::UnicodeWidthChar;

use super::INSTEAD;

/// Whether a terminal might obey a character instead of showing it, or show something other than the text:
/// controls (C0, DEL, C1); direction marks, overrides and isolates; line and paragraph separators; characters
/// without width or that are ignored (joiners, fillers, variation selectors, tags, the byte order mark); and
/// characters without an agreed meaning.
///
/// Line end and tab are controls, too: code that may show them checks for them first.
#[must_use]
pub fn is_hostile(c: char) -> bool {
    c.is_control() || c.width().is_none() || is_format(c) || is_nobodys(c)
}

/// Whether this is a format character, or one that Unicode calls ignorable by default.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether this is a noncharacter or a private-use character.
fn is_nobodys(c: char) -> bool {
    u32::from(c) & 0xfffe == 0xfffe
        || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'..)
}

/// A character as displayed within a line: all kinds of blanks become the same one.
pub(super) fn shown(c: char) -> char {
    match c {
        '\t' | '\u{2800}' => ' ',
        c if is_hostile(c) => INSTEAD,
        c if c.is_whitespace() => ' ',
        c => c,
    }
}
