//! Random hostile text in each place.

use std::io::Write;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Characters that an attacker would use to deceive, mixed with any others.
fn text() -> impl Strategy<Value = String> {
    let chosen = "\0\u{7}\u{8}\t\n\u{b}\r\u{1b}[2J\u{7f}\u{80}\u{85}\u{9b}\u{a0}\u{ad}e\u{301}\u{34f}\u{61c}\u{200b}\u{200d}\
        \u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{2800}\u{3000}\u{3164}\u{feff}\u{fe0f}\
        \u{e0041}\u{e000}\u{10ffff}   漢ä🦀";
    let chosen: Vec<char> = chosen.chars().collect();
    let one =
        prop_oneof![2 => any::<char>(), 5 => prop::sample::select(chosen), 2 => Just(' '), 1 => Just('\n')];
    vec(one, 0..600).prop_map(|chars| chars.into_iter().collect())
}

fn is_clean(text: &str) -> bool {
    !text.chars().any(is_hostile)
}

proptest! {
    #[test]
    fn a_field_is_a_short_piece_of_one_line(text in text()) {
        let shown = field(&text);
        prop_assert!(is_clean(&shown), "{shown:?}");
        prop_assert!(columns(&shown) <= MAX_FIELD && !shown.contains("  "), "{shown:?}");
        prop_assert_eq!(field(&shown), shown.clone());
        prop_assert_eq!(format!("{:4}|", Field("ab")), "ab  |");
        let reason = reason(&text);
        prop_assert!(is_clean(&reason) && columns(&reason) <= MAX_REASON && !reason.contains("  "), "{reason:?}");
    }

    #[test]
    fn marks_never_pile_up(text in text()) {
        let shown = field(&text);
        let mut marks = MARKS;
        for c in shown.chars() {
            marks = if c.width().unwrap_or(0) > 0 { 0 } else { marks + 1 };
            prop_assert!(marks <= MARKS, "{shown:?}");
        }
    }

    #[test]
    fn a_log_has_no_line_that_passes_for_another(text in text()) {
        let shown = record(&text);
        for (number, line) in shown.split('\n').enumerate() {
            prop_assert!(is_clean(line) && columns(line) <= MAX_LINE + 4, "{line:?}");
            prop_assert!(number == 0 || line.starts_with("    "), "{shown:?}");
        }
    }

    #[test]
    fn a_pages_lines_are_its_own(texts in vec(text(), 0..20)) {
        let mut page = Page::default();
        texts.iter().for_each(|text| page.line(format_args!("  {text}")));
        let shown = page.into_text();
        prop_assert_eq!(shown.lines().count(), texts.len());
        prop_assert!(shown.lines().all(is_clean), "{shown:?}");
    }

    #[test]
    fn nothing_hostile_gets_through_in_any_pieces(bytes in vec(any::<u8>(), 0..400), text in text(), cut in 1_usize..9) {
        let mut all = bytes;
        all.extend_from_slice(text.as_bytes());
        let mut out = Filter::new(Vec::new());
        all.chunks(cut).for_each(|piece| out.write_all(piece).unwrap());
        let Filter { to, begun } = out;
        prop_assert!(begun.len() <= CONTEXT);
        let shown = String::from_utf8(to).unwrap();
        prop_assert!(shown.chars().all(|c| matches!(c, '\n' | '\t') || !is_hostile(c)), "{shown:?}");
        let mut whole = Filter::new(Vec::new());
        whole.write_all(&all).unwrap();
        prop_assert_eq!(String::from_utf8(whole.to).unwrap(), shown);
    }

    #[test]
    fn a_log_that_comes_in_pieces_is_masked_as_a_whole(text in text(), cut in 1_usize..9) {
        let mut stored: Vec<u8> = Vec::new();
        for piece in text.as_bytes().chunks(cut) {
            let before = stored.len().min(CONTEXT);
            let mut together = stored.split_off(stored.len() - before);
            together.extend_from_slice(piece);
            mask(&mut together, before);
            stored.extend(together);
        }
        let mut whole = text.clone().into_bytes();
        mask(&mut whole, 0);
        prop_assert_eq!(&stored, &whole);
        prop_assert_eq!(stored.len(), text.len());
        let shown = String::from_utf8(stored).unwrap();
        prop_assert!(shown.chars().all(|c| matches!(c, '\n' | '\t') || !is_hostile(c)), "{shown:?}");
    }
}

#[test]
fn what_is_honest_stays_as_it_is() {
    for honest in
        ["ST380011A", "Samsung SSD 870 (500 GB)", "Müller", "e\u{301}te\u{301}", "東京", "дом", "🦀", "a b"]
    {
        assert_eq!(
            (field(honest), record(honest), json(honest)),
            (honest.into(), honest.into(), honest.into())
        );
    }
    assert_eq!(record("mkfs\r\n  a   b\n\n"), "mkfs\n      a   b");
    assert_eq!(reason(" no space\n\n  at all \n"), "no space; at all");
}

#[test]
fn every_kind_of_deceit_is_seen() {
    for hostile in [
        "\u{1b}",
        "\u{7f}",
        "\u{9b}",
        "\u{85}",
        "\u{200e}",
        "\u{202e}",
        "\u{2066}",
        "\u{2069}",
        "\u{61c}",
        "\u{2028}",
        "\u{2029}",
        "\u{200b}",
        "\u{200d}",
        "\u{2060}",
        "\u{feff}",
        "\u{ad}",
        "\u{e0020}",
        "\u{e007f}",
        "\u{e0100}",
        "\u{fe0f}",
        "\u{3164}",
        "\u{115f}",
        "\u{180e}",
        "\u{fff9}",
        "\u{ffff}",
        "\u{e123}",
    ] {
        assert_eq!(field(&format!("a{hostile}b")), "a?b", "{hostile:?}");
        let escaped = json(hostile);
        assert!(escaped.is_ascii() && escaped.starts_with("\\u"), "{escaped}");
    }
    assert_eq!(field("a\u{a0}\u{2003}\t \u{2800}\u{3000}b"), "a b");
}

#[test]
fn what_is_long_is_cut_and_what_is_many_is_counted() {
    assert_eq!(field(&"漢".repeat(1000)), "漢".repeat(127) + "…");
    assert_eq!(columns(&field(&"x".repeat(1000))), MAX_FIELD);
    let lines = record(&"line\n".repeat(MAX_LINES + 7));
    assert!(lines.ends_with("\n    and 7 more lines") && lines.lines().count() == MAX_LINES + 1);
    assert_eq!(some(1..=3, 3), "1, 2, 3");
    assert_eq!(some(["a\n", "b", "c"], 2), "a?, b and 1 more");
    let mut page = Page::default();
    page.more("  ", 0, "disks");
    page.more("  ", 20_001, "disks");
    assert_eq!(page.into_text(), "  and 20001 more disks\n");
    let mut page = Page::default();
    (0..5).for_each(|number| page.line(format_args!("{number}")));
    let whole = page.clone();
    page.cut(5);
    assert_eq!(page, whole);
    page.cut(3);
    assert_eq!(page.into_text(), "0\n1\n2\n  and 2 more lines\n");
    assert_eq!((width(["ab", "漢字漢"]), width(["x".repeat(100)]), width([""; 0])), (6, MAX_COLUMN, 0));
}

#[test]
fn pieces_of_a_log_in_any_order_hide_nothing() {
    let mut bytes = *b"\xe2\x80\xaeabc\x1b[2J\xff\n";
    mask(&mut bytes, 0);
    assert_eq!(&bytes, b"???abc?[2J?\n");
    let mut begun = *b"ab\xe2\x80";
    mask(&mut begun, 0);
    assert_eq!(&begun, b"ab\xe2\x80");
    let mut rest = *b"\x80\xa8ab\x80";
    mask(&mut rest, 2);
    assert_eq!(&rest, b"\x80\xa8ab?");
}
