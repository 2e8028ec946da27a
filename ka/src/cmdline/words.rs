//! Splits the kernel command line into words, with the kernel's quoting.

/// Works like `next_arg` in the kernel's lib/cmdline.c: double quotes keep spaces together and are removed
/// when they enclose the whole value or the whole word; there is no escape character.
#[must_use]
pub fn words(text: &str) -> Vec<(String, Option<String>)> {
    let mut quoted = false;
    text.trim()
        .split(|c: char| {
            quoted ^= c == '"';
            c.is_ascii_whitespace() && !quoted
        })
        .filter(|word| !word.is_empty())
        .map(parameter)
        .collect()
}

fn parameter(word: &str) -> (String, Option<String>) {
    let word = unquoted(word);
    match word.split_once('=') {
        None => (word.to_owned(), None),
        Some((name, value)) => (name.to_owned(), Some(unquoted(value).to_owned())),
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').map_or(text, |inner| inner.strip_suffix('"').unwrap_or(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_by_the_kernel() {
        for (text, expected) in [
            ("", vec![]),
            ("  a   b\n", vec![("a", None), ("b", None)]),
            ("a=1 b= c==2", vec![("a", Some("1")), ("b", Some("")), ("c", Some("=2"))]),
            (r#"a="1 2" b"#, vec![("a", Some("1 2")), ("b", None)]),
            (r#""a=1 2" b"#, vec![("a", Some("1 2")), ("b", None)]),
            (r#"a=x"1 2"y b"#, vec![("a", Some(r#"x"1 2"y"#)), ("b", None)]),
            (r#"a="1 2 b"#, vec![("a", Some("1 2 b"))]),
            (r#"a="" b"#, vec![("a", Some("")), ("b", None)]),
        ] {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(n, v): (&str, Option<&str>)| (n.to_owned(), v.map(str::to_owned)))
                .collect();
            assert_eq!(words(text), expected, "{text}");
        }
    }
}
