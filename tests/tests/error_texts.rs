//! Errors keep their type until they are printed. A cause is reported once: an error shows its source in its
//! own text, or returns it from `source()` for the code that prints the chain, but never both. No decision
//! depends on a text.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ka_tests::sources;

#[test]
fn no_error_says_its_cause_twice() {
    let found: Vec<String> = sources::of_crates()
        .into_iter()
        .flat_map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            twice(&text).into_iter().map(move |what| format!("{}: {what}", path.display()))
        })
        .collect();
    assert!(found.is_empty(), "errors that show their source and return it, too:\n{}", found.join("\n"));
}

#[test]
fn both_forms_are_seen() {
    let named = "#[error(\"{path}: {source}\")]\n    File {\n        source: io::Error,\n    },\n";
    let from = "#[error(\"cannot listen: {0}\")]\n    System(#[from] io::Error),\n";
    assert_eq!((twice(named).len(), twice(from).len()), (1, 1));
    for good in [
        "#[error(\"{path}: {error}\")]\n    File {\n        error: io::Error,\n    },\n",
        "#[error(\"cannot listen\")]\n    System(#[from] io::Error),\n",
        "#[error(transparent)]\n    System(#[from] io::Error),\n",
        "#[error(\"{0} nodes\")]\n    Few(u32),\n    #[error(transparent)]\n    System(#[from] io::Error),\n",
    ] {
        assert_eq!(twice(good), Vec::<String>::new(), "{good}");
    }
}

/// The messages of the variants that report their cause twice.
fn twice(text: &str) -> Vec<String> {
    let variants = text.split("#[error(").skip(1);
    variants
        .filter_map(|variant| {
            let (message, rest) = variant.split_once(")]\n")?;
            let fields = rest.split("\n    /// ").next()?.split("\n}\n").next()?;
            let shows = ["{source", "source)", "(source", ".source", "{0}", "{0:"];
            let returns = ["#[source]", "#[from]", " source: "];
            let both = shows.iter().any(|part| message.contains(part))
                && returns.iter().any(|part| fields.contains(part));
            both.then(|| message.to_owned())
        })
        .collect()
}

#[test]
fn nothing_is_decided_by_the_text_of_an_error() {
    let texts: Vec<_> =
        sources::of_crates().into_iter().map(|path| (fs::read_to_string(&path).unwrap(), path)).collect();
    let tests: BTreeSet<String> = texts.iter().flat_map(|(text, _)| sources::test_modules(text)).collect();
    // A test module may be a directory.
    let is_test = |path: &Path| {
        let below = path.strip_prefix(ka_tests::root()).unwrap_or(path).with_extension("");
        below.iter().any(|part| tests.contains(&*part.to_string_lossy()))
    };
    let mut found = Vec::new();
    for (text, path) in texts.iter().filter(|(_, path)| !is_test(path)) {
        let decisions = decisions(&sources::without_tests(text));
        found.extend(decisions.into_iter().map(|what| format!("{}: {what}", path.display())));
    }
    assert!(found.is_empty(), "code that asks what an error's text says:\n{}", found.join("\n"));
}

#[test]
fn such_decisions_are_seen() {
    for bad in [
        "if reason.starts_with(\"nothing is written\") {",
        "error.to_string().contains(\"busy\")",
        "failure.reason.ends_with('x')",
        "match reason.as_str() {",
        "if failure.reason == \"gone\" {",
        ".filter(|message| message.contains(\"gone\"))",
    ] {
        assert_eq!(decisions(bad).len(), 1, "{bad}");
    }
    for good in ["line.starts_with(\"UUID=\")", "reason.to_owned()", "let reason = \"gone\";"] {
        assert_eq!(decisions(good), Vec::<String>::new(), "{good}");
    }
}

/// The lines that examine the text of an error or a reason.
fn decisions(text: &str) -> Vec<String> {
    const NAMES: [&str; 6] = ["reason", "message", "error", "err", "cause", "to_string()"];
    const ASKS: [&str; 6] =
        [".starts_with(", ".ends_with(", ".contains(", ".strip_prefix(", ".find(", " == \""];
    let asks = |line: &str| {
        NAMES.iter().any(|name| {
            line.match_indices(name).any(|(at, _)| {
                let whole = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                let rest = &line[at + name.len()..];
                let rest = rest.strip_prefix(".to_string()").unwrap_or(rest);
                let matched = rest.starts_with(".as_str() {") && line[..at].contains("match ");
                let rest = rest.strip_prefix(".as_str()").unwrap_or(rest);
                whole && (matched || ASKS.iter().any(|ask| rest.starts_with(ask)))
            })
        })
    };
    text.lines().filter(|line| asks(line)).map(|line| line.trim().to_owned()).collect()
}
