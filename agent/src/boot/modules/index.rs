//! A kernel's modules according to depmod(8) and modprobe.d(5), and the order in which they must be loaded.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::pattern::matches;
use ka::cmdline::words;

/// One kernel's modules.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Module files below the module directory, with the files that each needs, nearest first.
    files: BTreeMap<String, Module>,
    /// Built-in modules.
    builtin: HashSet<String>,
    /// Patterns by bus (the text before the first colon), with the module that each names.
    aliases: HashMap<String, Vec<(String, String)>>,
    soft: HashMap<String, Soft>,
    blacklist: BTreeSet<String>,
    options: HashMap<String, Vec<String>>,
}

#[derive(Debug)]
struct Module {
    path: PathBuf,
    /// The names of its dependencies, nearest first.
    needs: Vec<String>,
}

#[derive(Debug, Default)]
struct Soft {
    before: Vec<String>,
    after: Vec<String>,
}

/// One module to load, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Modules that must be loaded first. Soft dependencies are not included.
    pub(super) needs: Vec<String>,
    /// Parameters, separated by spaces.
    pub(super) options: String,
}

impl Index {
    /// Reads `lib/modules/RELEASE` and the modprobe.d directories below `root`. Only `modules.dep` must
    /// exist.
    pub(super) fn read(root: &Path, release: &str) -> io::Result<Self> {
        let folder = root.join("lib/modules").join(release);
        let dep = folder.join("modules.dep");
        let dep = fs::read_to_string(&dep)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", dep.display())))?;
        let mut index = Self::default();
        index.read_dep(&folder, &dep);
        index.read_builtin(&optional(&folder.join("modules.builtin"))?);
        index.read_config(&optional(&folder.join("modules.alias"))?);
        index.read_config(&optional(&folder.join("modules.softdep"))?);
        for config in config_files(root)? {
            index.read_config(&optional(&config)?);
        }
        Ok(index)
    }

    /// `kernel/a.ko.xz: kernel/b.ko.xz kernel/c.ko.xz`, modules.dep(5).
    fn read_dep(&mut self, folder: &Path, text: &str) {
        for line in text.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_whitespace().map(name_of).collect();
            self.files.insert(name_of(path), Module { path: folder.join(path), needs });
        }
    }

    fn read_builtin(&mut self, text: &str) {
        self.builtin.extend(text.lines().map(name_of));
    }

    /// `modules.alias`, `modules.softdep` and modprobe.d files share one syntax, modprobe.d(5). `install`,
    /// `remove` and `weakdep` are ignored: no shell runs here, and weak dependencies are for initrd builders.
    fn read_config(&mut self, text: &str) {
        let text = text.replace("\\\n", " ");
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("alias"), Some(pattern)) => {
                    if let Some(module) = words.next() {
                        let entry = (pattern.to_owned(), normal(module));
                        self.aliases.entry(bus_of(pattern).to_owned()).or_default().push(entry);
                    }
                }
                (Some("softdep"), Some(module)) => {
                    let soft = self.soft.entry(normal(module)).or_default();
                    let mut list = None;
                    for word in words {
                        match (word, &mut list) {
                            ("pre:", _) => list = Some(true),
                            ("post:", _) => list = Some(false),
                            (_, Some(true)) => soft.before.push(normal(word)),
                            (_, Some(false)) => soft.after.push(normal(word)),
                            (_, None) => {}
                        }
                    }
                }
                (Some("blacklist"), Some(module)) => self.blacklist(module),
                (Some("options"), Some(module)) => {
                    self.options.entry(normal(module)).or_default().extend(words.map(str::to_owned));
                }
                _ => {}
            }
        }
    }

    /// The module parameters on the kernel command line. A dot after an unknown name does not denote a module
    /// parameter.
    pub(super) fn read_command_line(&mut self, text: &str) {
        for (name, value) in words(text) {
            match (name.split_once('.'), value) {
                (Some(("modprobe", "blacklist")), Some(list)) => {
                    list.split(',').for_each(|module| self.blacklist(module));
                }
                (Some((module, parameter)), value) if self.knows(module) => {
                    let value = value.map(|value| format!("={value}")).unwrap_or_default();
                    self.options.entry(normal(module)).or_default().push(format!("{parameter}{value}"));
                }
                _ => {}
            }
        }
    }

    /// Never load this module for a device; it can still be loaded by name.
    fn blacklist(&mut self, module: &str) {
        self.blacklist.insert(normal(module));
    }

    /// The modules that claim a device with this modalias, without blacklisted ones.
    pub(super) fn for_device(&self, modalias: &str) -> Vec<String> {
        let mut found = Vec::new();
        for bus in [bus_of(modalias), ""] {
            for (pattern, module) in self.aliases.get(bus).into_iter().flatten() {
                if matches(pattern.as_bytes(), modalias.as_bytes())
                    && !self.blacklist.contains(module)
                    && !found.contains(module)
                {
                    found.push(module.clone());
                }
            }
        }
        found
    }

    pub(super) fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&normal(name))
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.files.contains_key(&normal(name))
    }

    /// Everything to load for `name`, in order: its dependencies, the modules that should precede it, itself,
    /// the modules that should follow it. Unknown soft dependencies are skipped.
    pub(super) fn order(&self, name: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        self.add(&normal(name), &mut HashSet::new(), &mut steps);
        steps
    }

    fn add(&self, name: &str, met: &mut HashSet<String>, steps: &mut Vec<Step>) {
        let Some(module) = self.files.get(name) else { return };
        if !met.insert(name.to_owned()) {
            return;
        }
        let soft = self.soft.get(name);
        for other in soft.into_iter().flat_map(|soft| &soft.before).chain(module.needs.iter().rev()) {
            self.add(other, met, steps);
        }
        steps.push(Step {
            name: name.to_owned(),
            path: module.path.clone(),
            needs: module.needs.clone(),
            options: self.options.get(name).map(|words| words.join(" ")).unwrap_or_default(),
        });
        for other in soft.into_iter().flat_map(|soft| &soft.after) {
            self.add(other, met, steps);
        }
    }
}

/// The module's name as the kernel shows it: without directory and suffix, with `_` for `-`.
pub(super) fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split_once(".ko").map_or(file, |(name, _)| name))
}

pub(super) fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The text before the first colon; empty if it contains a wildcard.
fn bus_of(alias: &str) -> &str {
    match alias.split_once(':') {
        Some((bus, _)) if !bus.contains(['*', '?', '[', '-']) => bus,
        _ => "",
    }
}

/// modprobe.d(5): a file in an earlier directory hides files of the same name in later ones.
fn config_files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for folder in [
        "etc/modprobe.d",
        "run/modprobe.d",
        "usr/local/lib/modprobe.d",
        "usr/lib/modprobe.d",
        "lib/modprobe.d",
    ] {
        let entries = match fs::read_dir(root.join(folder)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == "conf")
                && let Some(name) = path.file_name()
            {
                files.entry(name.to_owned()).or_insert(path);
            }
        }
    }
    Ok(files.into_values().collect())
}

fn optional(path: &Path) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
    }
}
