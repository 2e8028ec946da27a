//! The lists of what belongs to one machine only, and their effect on a tree.

use std::fs;
use std::io;
use std::path::Path;

use super::known;
use super::rule::{Rule, Verb, parse};
use crate::finish::error::Cause;
use ka_host::system::glob;

/// The rules of several files, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::finish) struct List(Vec<Rule>);

/// ka's own list.
const BUILTIN: &str = include_str!("builtin.list");

/// The directory of a site's lists.
const SITE: &str = "etc/ka/identity.d/*";

impl List {
    /// ka's rules, then those in the copied system's `/etc/ka/identity.d`, by file name.
    pub(in crate::finish) fn read(root: &Path) -> Result<Self, Cause> {
        let mut list = Self::default();
        list.add(BUILTIN, Path::new("builtin.list"))?;
        for path in glob::files(root, SITE)? {
            let text = fs::read_to_string(&path).map_err(|e| Cause::file("read", &path, e))?;
            list.add(&text, &path)?;
        }
        Ok(list)
    }

    fn add(&mut self, text: &str, file: &Path) -> Result<(), Cause> {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            let rules = match line.strip_prefix("enable").filter(|rest| rest.starts_with(char::is_whitespace))
            {
                Some(what) => known::enabled(what.trim()),
                None => parse(line).map(|rule| rule.into_iter().collect()),
            };
            let rules = rules.map_err(|wrong| Cause::List { file: file.to_owned(), line: number, wrong })?;
            self.0.extend(rules);
        }
        Ok(())
    }

    /// Whether a rule says that `path`, below `root`, does not belong to the golden node alone.
    pub(super) fn keeps(&self, root: &Path, path: &Path) -> Result<bool, Cause> {
        for rule in self.0.iter().filter(|rule| rule.verb == Verb::Keep) {
            if glob::entries(root, &rule.pattern)?.iter().any(|kept| path.starts_with(kept)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Applies the rules to the tree below `root`.
    pub(super) fn apply(&self, root: &Path, machine_id: Option<&str>) -> Result<(), Cause> {
        for rule in self.0.iter().filter(|rule| rule.verb != Verb::Keep) {
            let Some(pattern) = with_machine_id(&rule.pattern, machine_id) else { continue };
            for path in glob::entries(root, &pattern)? {
                if self.keeps(root, &path)? {
                    log::info!("{} stays, as the site's list says", path.display());
                } else if rule.directory {
                    of_directory(rule.verb, &path)?;
                } else if path.is_symlink() {
                    self.of_link(rule.verb, root, &path)?;
                } else {
                    of_file(rule.verb, &path)?;
                }
            }
        }
        Ok(())
    }

    /// A symbolic link is configuration and stays. The file that it leads to is treated as if it were here,
    /// unless it is empty: D-Bus's ID may be a link to systemd's, which was emptied and must exist.
    fn of_link(&self, verb: Verb, root: &Path, link: &Path) -> Result<(), Cause> {
        let follow = |e| Cause::file("follow", link, e);
        let target = match fs::canonicalize(link) {
            Ok(target) => target,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(follow(e)),
        };
        let metadata = fs::metadata(&target).map_err(follow)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Ok(());
        }
        // A program that reads a tree from outside must not be led out of it.
        let root = fs::canonicalize(root).map_err(|e| Cause::file("follow", root, e))?;
        let ours = target.starts_with(&root) && !target.starts_with(root.join("usr"));
        if !ours || self.keeps(&root, &target)? {
            warning!("{} is a link to {}, which stays as it is", link.display(), target.display());
            return Ok(());
        }
        log::info!("{} is a link to {}", link.display(), target.display());
        of_file(verb, &target)
    }
}

/// `None` if the golden node has no ID, and so no files named after it.
fn with_machine_id(pattern: &str, machine_id: Option<&str>) -> Option<String> {
    const NAME: &str = "${MACHINE_ID}";
    if pattern.contains(NAME) { Some(pattern.replace(NAME, machine_id?)) } else { Some(pattern.to_owned()) }
}

/// A regular file.
fn of_file(verb: Verb, path: &Path) -> Result<(), Cause> {
    let metadata = fs::symlink_metadata(path).map_err(|e| Cause::file("look at", path, e))?;
    if !metadata.is_file() || (verb == Verb::Empty && metadata.len() == 0) {
        return Ok(());
    }
    if verb == Verb::Remove {
        fs::remove_file(path).map_err(|e| Cause::file("remove", path, e))?;
        log::info!("removed {}, which belongs to the golden node", path.display());
    } else {
        let file = fs::File::options().write(true).truncate(true).open(path);
        file.map_err(|e| Cause::file("empty", path, e))?;
        log::info!("emptied {}", path.display());
    }
    Ok(())
}

fn of_directory(verb: Verb, path: &Path) -> Result<(), Cause> {
    let metadata = fs::symlink_metadata(path).map_err(|e| Cause::file("look at", path, e))?;
    if !metadata.is_dir() {
        return Ok(());
    }
    if verb == Verb::Remove {
        fs::remove_dir_all(path).map_err(|e| Cause::file("remove", path, e))?;
        log::info!("removed {}, which belongs to the golden node", path.display());
        return Ok(());
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    for inner in entries.map_err(|e| Cause::file("list", path, e))?.into_iter().map(|entry| entry.path()) {
        let removed = if inner.is_dir() && !inner.is_symlink() {
            fs::remove_dir_all(&inner)
        } else {
            fs::remove_file(&inner)
        };
        removed.map_err(|e| Cause::file("remove", &inner, e))?;
    }
    log::info!("emptied {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_list_is_right() {
        let mut list = List::default();
        list.add(BUILTIN, Path::new("builtin.list")).unwrap();
        assert!(list.0.len() > 50);
    }

    #[test]
    fn bad_rules_are_told_with_their_line() {
        for (text, wrong) in [
            ("remove etc/x", "3: expected an absolute path without '..', found 'etc/x'"),
            ("remove /etc/../x", "3: expected an absolute path"),
            ("delete /etc/x", "3: expected remove, empty, keep or enable, found 'delete'"),
            ("enable everything", "3: expected `enable` with all, a path of the list, or one of kerberos"),
            ("remove", "3: expected an absolute path without '..', found ''"),
            ("remove /etc/", "3: '/etc/' is too much to take away"),
            ("empty /", "3: '/' is too much to take away"),
            ("remove /var/lib/", "3: '/var/lib/' is too much"),
        ] {
            let error = List::default().add(&format!("# x\n\n{text}\n"), Path::new("site")).unwrap_err();
            assert!(error.to_string().contains(&format!("site:{wrong}")), "{error}");
        }
    }

    #[test]
    fn rules_do_what_they_say() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        for name in [
            "srv/id",
            "srv/seed",
            "usr/x/lib",
            "srv/a/1",
            "srv/a/sub/2",
            "srv/b/1",
            "srv/b/kept",
            "srv/journal/0123/j",
            "srv/log",
        ] {
            put(name);
        }
        for (name, to) in [
            ("srv/linked", "id"),
            ("srv/linked-seed", "seed"),
            ("srv/dangling", "nowhere"),
            ("srv/there", "a"),
            ("srv/package", "../usr/x/lib"),
            ("srv/linked-kept", "b/kept"),
        ] {
            std::os::unix::fs::symlink(to, root.path().join(name)).unwrap();
        }
        let mut list = List::default();
        let text = "empty /srv/a/x/../\n";
        assert!(list.add(text, Path::new("x")).is_err());
        let text = "remove /srv/a/sub/\nremove /srv/b/*\nkeep /srv/b/kept\nremove /srv/journal/${MACHINE_ID}/\nempty /srv/*og\nempty /srv/linked\nremove /srv/linked-*\nempty /srv/dangling\nremove /srv/there\nempty /srv/package\n";
        list.add(text, Path::new("x")).unwrap();
        list.apply(root.path(), None).unwrap();
        assert!(root.path().join("srv/journal/0123").exists());
        list.apply(root.path(), Some("0123")).unwrap();
        for (name, there) in [
            ("srv/a/1", true),
            ("srv/a/sub", false),
            ("srv/b/1", false),
            ("srv/b/kept", true),
            ("srv/journal", true),
            ("srv/journal/0123", false),
        ] {
            assert_eq!(root.path().join(name).exists(), there, "{name}");
        }
        assert_eq!(fs::read(root.path().join("srv/log")).unwrap(), b"");
        assert_eq!(fs::read(root.path().join("srv/id")).unwrap(), b"", "the file behind the link");
        assert!(!root.path().join("srv/seed").exists(), "the file behind the link");
        assert_eq!(fs::read(root.path().join("usr/x/lib")).unwrap(), b"x");
        for link in ["srv/linked", "srv/linked-seed", "srv/dangling", "srv/there"] {
            assert!(fs::symlink_metadata(root.path().join(link)).unwrap().is_symlink(), "{link}");
        }
        assert!(list.keeps(root.path(), &root.path().join("srv/b/kept")).unwrap());
    }
}
