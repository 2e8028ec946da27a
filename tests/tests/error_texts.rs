//! A cause is said once: an error shows its source in its own text, or returns it from `source()` for whoever prints the
//! chain, and never both.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn no_error_says_its_cause_twice() {
    let top = ka_tests::root();
    let found: Vec<String> = ["ka", "host", "net", "agent", "controller"]
        .iter()
        .flat_map(|name| sources(&top.join(name).join("src")))
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

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The messages of the variants that say their cause twice.
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
