//! `kactl image`: builds what a node boots (`vmlinuz` and `all.rdz`) and the tree that it then works in
//! (`stage2`), from the kernel and the tools of the machine that it runs on.
//!
//! The scripts of `initramfs/` do the work. All their inputs are checked here first, so that everything
//! missing is reported together, and the old image stays intact until the new one is complete.

mod inputs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use ka_host::{guarded, terminal};
use rustix::fs::{CWD, RenameFlags};

use crate::config::{Directories, keys};
use inputs::{Kernel, complain};

/// Options of `kactl image`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kactl image               build for the running kernel
  kactl image --key-only    after 'kactl init --force'")]
pub struct ImageArgs {
    /// Kernel version (default: the running one)
    #[arg(long, value_name = "VERSION")]
    pub kernel: Option<String>,
    /// Root of the system that provides kernel, firmware and tools
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Scripts that build the image
    #[arg(long, value_name = "DIR")]
    pub lib: Option<PathBuf>,
    /// The static agent
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// Only replace the join key in the existing image
    #[arg(long)]
    pub key_only: bool,
}

impl Default for ImageArgs {
    /// The image of the running kernel.
    fn default() -> Self {
        Self { kernel: None, root: "/".into(), lib: None, agent: None, key_only: false }
    }
}

/// The sources and destinations of an image's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The scripts.
    pub scripts: PathBuf,
    /// The static agent.
    pub agent: PathBuf,
    /// The join key.
    pub key: PathBuf,
    /// The directory for `vmlinuz` and `all.rdz`. Other files in it are left alone.
    pub boot: PathBuf,
    /// The stage2 tree, replaced as a whole.
    pub stage2: PathBuf,
}

impl Places {
    /// Takes the paths from the configuration.
    #[must_use]
    pub fn of(directories: &Directories) -> Self {
        Self {
            scripts: directories.lib.join("initramfs"),
            agent: directories.lib.join("ka-agent"),
            key: keys::join_file(&directories.keys),
            boot: directories.boot(),
            stage2: directories.stage2(),
        }
    }
}

/// The output of `make-rdz`. The kernel is installed last: until then, the old pair is intact.
const BOOT_FILES: [&str; 4] = ["missing-firmware", "stage1.rdz", "all.rdz", "vmlinuz"];

/// Builds the image and stage2, then replaces the old ones.
///
/// # Errors
/// An input is missing (all missing ones are named, each with the command that provides it), a script failed,
/// or a destination cannot be written.
pub fn run(args: &ImageArgs, places: &Places) -> Result<()> {
    let places = Places {
        scripts: args.lib.clone().unwrap_or_else(|| places.scripts.clone()),
        agent: args.agent.clone().unwrap_or_else(|| places.agent.clone()),
        ..places.clone()
    };
    if args.key_only {
        return change_key(&places);
    }
    let kernel = Kernel::of(args)?;
    complain(&inputs::missing(args, &places, &kernel)?)?;

    let boot = Scratch::beside(&places.boot)?;
    let stage2 = Scratch::beside(&places.stage2)?;
    let script = |name: &str| Command::new(places.scripts.join(name));
    let (new_boot, new_stage2) = (boot.0.join("boot"), stage2.0.join("stage2"));
    let mut rdz = script("make-rdz");
    rdz.args([&kernel.image, &kernel.modules, &args.root, &places.agent, &places.key, &new_boot]);
    let mut tree = script("make-stage2");
    tree.args([&kernel.modules, &args.root, &places.agent, &new_stage2]);
    terminal::say(format_args!(
        "building the image of kernel {} from \
        {}",
        kernel.version,
        args.root.display()
    ));
    succeed(&mut [rdz, tree])?;

    let missing = [new_boot.join("missing-firmware"), new_stage2.join("missing-firmware")];
    report_firmware(&missing, &args.root)?;
    exchange(&new_stage2, &places.stage2)?;
    // The image holds the join key, and anyone who can read that key can join. dnsmasq may already have
    // access.
    guarded::shared_directory(&places.boot, 0o700, 0o027)?;
    for name in BOOT_FILES {
        replace(&new_boot.join(name), &places.boot.join(name))?;
    }
    terminal::say(format_args!(
        "{} and {} are ready",
        places.boot.join("all.rdz").display(),
        places.stage2.display()
    ));
    terminal::say(
        "next: `kactl doctor --interface IF` checks this machine, and `kactl pxe --interface IF` serves the image",
    );
    Ok(())
}

/// Combines the image without a key, left by the last full build, with the current key.
fn change_key(places: &Places) -> Result<()> {
    let stage1 = places.boot.join("stage1.rdz");
    let inputs = [(&stage1, "`kactl image`"), (&places.key, "`kactl init`")];
    let missing = inputs.iter().filter(|(path, _)| !path.exists());
    complain(
        &missing.map(|(p, remedy)| format!("{} is missing: {remedy}", p.display())).collect::<Vec<_>>(),
    )?;
    let scratch = Scratch::beside(&places.boot)?;
    let new = scratch.0.join("all.rdz");
    let mut command = Command::new(places.scripts.join("add-key"));
    command.args([&stage1, &places.key, &new]);
    succeed(&mut [command])?;
    replace(&new, &places.boot.join("all.rdz"))?;
    terminal::say(format_args!(
        "{} has the key of {}",
        places.boot.join("all.rdz").display(),
        places.key.display()
    ));
    Ok(())
}

/// Runs all of these at once, each to its end, even if others fail: none may still be writing when the
/// scratch directories are removed.
fn succeed(commands: &mut [Command]) -> Result<()> {
    let name = |command: &Command| command.get_program().to_string_lossy().into_owned();
    let running: Vec<_> = commands.iter_mut().map(|command| (name(command), command.spawn())).collect();
    let mut failures = Vec::new();
    for (name, child) in running {
        match child.and_then(|mut child| child.wait()) {
            Ok(status) if status.success() => {}
            Ok(status) => failures.push(format!("{name}: {status}")),
            Err(e) => failures.push(format!("cannot run {name}: {e}")),
        }
    }
    if !failures.is_empty() {
        bail!("{}; the reason is above, and the old image is as it was", failures.join(", "));
    }
    Ok(())
}

/// A directory next to the final destination of its contents, so that a rename moves them. Dropping it
/// removes it with everything left in it.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(place: &Path) -> Result<Self> {
        let name = place.file_name().with_context(|| format!("{} has no name", place.display()))?;
        let above = place.parent().with_context(|| format!("{} has no directory above", place.display()))?;
        let path = above.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        // A partial tree must not be readable by others.
        guarded::directory(&path, 0o700)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            log::warn!("cannot remove {}: {e}", self.0.display());
        }
    }
}

/// The two trees are exchanged in one step, so that readers find either the old tree or the new one.
fn exchange(new: &Path, place: &Path) -> Result<()> {
    let context = || format!("cannot put {} in its place", place.display());
    match rustix::fs::renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::NOENT) => fs::rename(new, place).with_context(context),
        other => other.map_err(io::Error::from).with_context(context),
    }
}

fn replace(new: &Path, place: &Path) -> Result<()> {
    let sync = fs::File::open(new).and_then(|f| f.sync_all());
    sync.and_then(|()| fs::rename(new, place)).with_context(|| format!("cannot write {}", place.display()))
}

/// Reports the modules that will not find their firmware on a node: their devices may not work there.
fn report_firmware(lists: &[PathBuf], root: &Path) -> Result<()> {
    let mut text = String::new();
    for list in lists {
        text += &fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    }
    let modules = modules_without_firmware(&text);
    if !modules.is_empty() {
        let list: Vec<String> = modules.iter().map(|(module, files)| format!("{module} ({files})")).collect();
        terminal::say(format_args!(
            "not on {}, so these modules lack firmware (number of files): {}",
            root.display(),
            list.join(", ")
        ));
        terminal::say(format_args!(
            "Debian has most of it in the packages firmware-*, of the section non-free-firmware"
        ));
    }
    Ok(())
}

/// Counts the files by module. A line is a module's file and the firmware's name, separated by a space;
/// stage1 and stage2 may have the same line.
fn modules_without_firmware(list: &str) -> BTreeMap<&str, usize> {
    let mut modules = BTreeMap::new();
    let lines: BTreeSet<&str> = list.lines().collect();
    for (module, _) in lines.into_iter().filter_map(|line| line.split_once(' ')) {
        *modules.entry(module.trim_end_matches(".ko")).or_insert(0) += 1;
    }
    modules
}
