//! `kactl image`: makes what a node boots (`vmlinuz` and `all.rdz`) and the tree that it then works in (`stage2`),
//! from the kernel and the tools of the machine that it is on.
//!
//! The scripts of `initramfs/` do the work. Here everything that they need is looked at first, so that a person
//! reads all that is missing at once, and the old image stays whole until the new one is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, RenameFlags};

use crate::atomic;
use crate::config::{Directories, keys};

/// Options of `kactl image`.
#[derive(Clone, Debug, clap::Args)]
pub struct ImageArgs {
    /// The kernel's version; without it, the one that runs
    #[arg(long, value_name = "VERSION")]
    pub kernel: Option<String>,
    /// The root of the system that gives kernel, firmware and tools
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// The scripts that make the image
    #[arg(long, value_name = "DIR")]
    pub lib: Option<PathBuf>,
    /// The static agent
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// Only puts the join key into the image that is there
    #[arg(long)]
    pub key_only: bool,
}

/// Where the parts of an image come from and go to.
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
    /// As the configuration says.
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

/// What `make-rdz` writes. The kernel goes last: until then, the old pair is whole.
const BOOT_FILES: [&str; 4] = ["missing-firmware", "stage1.rdz", "all.rdz", "vmlinuz"];

/// Makes the image and stage2, then puts them in the place of the old ones.
///
/// # Errors
/// An input that is missing (all of them are named, with the command that makes each), a script that failed, a place
/// that cannot be written.
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
    complain(&missing_inputs(args, &places, &kernel))?;

    let boot = Scratch::beside(&places.boot)?;
    let stage2 = Scratch::beside(&places.stage2)?;
    let script = |name: &str| Command::new(places.scripts.join(name));
    let (new_boot, new_stage2) = (boot.0.join("boot"), stage2.0.join("stage2"));
    let mut rdz = script("make-rdz");
    rdz.args([&kernel.image, &kernel.modules, &args.root, &places.agent, &places.key, &new_boot]);
    succeed(rdz)?;
    let mut tree = script("make-stage2");
    tree.args([&kernel.modules, &args.root, &places.agent, &new_stage2]);
    succeed(tree)?;

    let missing = [new_boot.join("missing-firmware"), new_stage2.join("missing-firmware")];
    report_firmware(&missing, &args.root)?;
    exchange(&new_stage2, &places.stage2)?;
    // The image has the join key, and whoever reads that can join.
    atomic::directory(&places.boot, 0o700)?;
    for name in BOOT_FILES {
        replace(&new_boot.join(name), &places.boot.join(name))?;
    }
    println!("{} and {} are ready", places.boot.join("all.rdz").display(), places.stage2.display());
    Ok(())
}

/// The kernel that the nodes are to boot.
struct Kernel {
    version: String,
    image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    fn of(args: &ImageArgs) -> Result<Self> {
        let running = rustix::system::uname();
        let version = match &args.kernel {
            Some(version) => version.clone(),
            None => {
                running.release().to_str().context("the running kernel's version is not text")?.to_owned()
            }
        };
        let image = args.root.join("boot").join(format!("vmlinuz-{version}"));
        let modules = args.root.join("lib/modules").join(&version);
        Ok(Self { version, image, modules })
    }
}

/// Every input that is not there, each with the command that makes it.
fn missing_inputs(args: &ImageArgs, places: &Places, kernel: &Kernel) -> Vec<String> {
    let package =
        format!("apt-get install linux-image-{} (or name another kernel with --kernel)", kernel.version);
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|p| args.root.join(p));
    let busybox = busybox.iter().find(|p| p.exists()).unwrap_or(&busybox[0]);
    [
        (&kernel.image, package.as_str()),
        (&kernel.modules.join("kernel"), &package),
        (busybox, "apt-get install busybox-static"),
        (&places.agent, "`make agent`, then `make install`; or name it with --agent"),
        (&places.scripts.join("make-rdz"), "`make install`; or name its directory with --lib"),
        (&places.scripts.join("make-stage2"), "`make install`; or name its directory with --lib"),
        (&places.key, "`kactl init`"),
    ]
    .iter()
    .filter(|(path, _)| !path.exists())
    .map(|(path, remedy)| format!("{} is missing: {remedy}", path.display()))
    .collect()
}

fn complain(missing: &[String]) -> Result<()> {
    if !missing.is_empty() {
        bail!("no image can be made:\n  {}", missing.join("\n  "));
    }
    if !rustix::process::geteuid().is_root() {
        bail!("no image can be made: it holds device nodes, so `kactl image` must run as root");
    }
    Ok(())
}

/// Joins the image without a key, which the last full run left, with the key of today.
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
    succeed(command)?;
    replace(&new, &places.boot.join("all.rdz"))?;
    println!("{} has the key of {}", places.boot.join("all.rdz").display(), places.key.display());
    Ok(())
}

fn succeed(mut command: Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name}: {status}; its reason is above, and the old image is as it was");
    }
    Ok(())
}

/// A directory beside the place that its contents will take, so that a rename moves them. It goes away with all that
/// is left in it.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(place: &Path) -> Result<Self> {
        let name = place.file_name().with_context(|| format!("{} has no name", place.display()))?;
        let above = place.parent().with_context(|| format!("{} has no directory above", place.display()))?;
        let path = above.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        // Half a tree is nobody's business.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot protect {}", path.display()))?;
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

/// The two trees change places in one step, so that whoever looks finds the old tree or the new one.
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

/// Says which modules will not find their firmware on a node: their devices may stay dead there.
fn report_firmware(lists: &[PathBuf], root: &Path) -> Result<()> {
    let mut text = String::new();
    for list in lists {
        text += &fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    }
    let modules = modules_without_firmware(&text);
    if !modules.is_empty() {
        let list: Vec<String> = modules.iter().map(|(module, files)| format!("{module} ({files})")).collect();
        println!(
            "not on {}, so these modules lack firmware (number of files): {}",
            root.display(),
            list.join(", ")
        );
        println!("Debian has most of it in the packages firmware-*, of the section non-free-firmware");
    }
    Ok(())
}

/// Counts the files by module. A line is a module's file and the firmware's name, apart by a space; stage1 and stage2
/// may have the same one.
fn modules_without_firmware(list: &str) -> BTreeMap<&str, usize> {
    let mut modules = BTreeMap::new();
    let lines: BTreeSet<&str> = list.lines().collect();
    for (module, _) in lines.into_iter().filter_map(|line| line.split_once(' ')) {
        *modules.entry(module.trim_end_matches(".ko")).or_insert(0) += 1;
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(root: &Path) -> ImageArgs {
        let kernel = Some("6.1.0-none".to_owned());
        ImageArgs { kernel, root: root.into(), lib: None, agent: None, key_only: false }
    }

    fn places(base: &Path) -> Places {
        Places {
            scripts: base.join("lib"),
            agent: base.join("ka-agent"),
            key: base.join("join.key"),
            boot: base.join("boot"),
            stage2: base.join("stage2"),
        }
    }

    #[test]
    fn every_missing_input_is_named_with_its_remedy() {
        let base = tempfile::tempdir().unwrap();
        let text = run(&args(base.path()), &places(base.path())).unwrap_err().to_string();
        let expected = [
            ("boot/vmlinuz-6.1.0-none", "apt-get install linux-image-6.1.0-none"),
            ("lib/modules/6.1.0-none", "apt-get install linux-image-6.1.0-none"),
            ("bin/busybox", "apt-get install busybox-static"),
            ("ka-agent", "make agent"),
            ("lib/make-rdz", "make install"),
            ("lib/make-stage2", "make install"),
            ("join.key", "kactl init"),
        ];
        for (file, remedy) in expected {
            let line = text.lines().find(|l| l.contains(&format!("{}/{file}", base.path().display())));
            assert!(line.is_some_and(|l| l.contains(remedy)), "no line of {file} with {remedy} in: {text}");
        }
    }

    #[test]
    fn a_key_without_an_image_names_the_command_that_makes_one() {
        let base = tempfile::tempdir().unwrap();
        let args = ImageArgs { key_only: true, ..args(base.path()) };
        let text = run(&args, &places(base.path())).unwrap_err().to_string();
        assert!(text.contains("stage1.rdz is missing: `kactl image`"), "{text}");
    }

    #[test]
    fn firmware_is_counted_by_module() {
        let counts = modules_without_firmware(
            "bnx2.ko bnx2/a.fw\nbnx2.ko bnx2/b.fw\ntg3.ko tigon/tg3.bin\nbnx2.ko bnx2/a.fw\n",
        );
        assert_eq!(counts, BTreeMap::from([("bnx2", 2), ("tg3", 1)]));
    }

    #[test]
    fn a_tree_takes_the_place_of_an_old_one_or_of_none() {
        let base = tempfile::tempdir().unwrap();
        let place = base.path().join("stage2");
        for contents in ["first", "second"] {
            let scratch = Scratch::beside(&place).unwrap();
            let new = scratch.0.join("stage2");
            fs::create_dir(&new).unwrap();
            fs::write(new.join("file"), contents).unwrap();
            exchange(&new, &place).unwrap();
            drop(scratch);
            assert_eq!(fs::read_to_string(place.join("file")).unwrap(), contents);
        }
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1, "a scratch directory was left behind");
    }

    /// Inputs that are all there, and scripts that stand for the real ones.
    fn complete(base: &Path) {
        for directory in ["boot", "lib/modules/6.1.0-none/kernel", "bin"] {
            fs::create_dir_all(base.join(directory)).unwrap();
        }
        for file in ["boot/vmlinuz-6.1.0-none", "bin/busybox", "ka-agent", "join.key"] {
            fs::write(base.join(file), file).unwrap();
        }
        let rdz = "mkdir $6; cd $6; for f in vmlinuz all.rdz stage1.rdz; do echo new >$f; done; : >missing-firmware";
        let tree = "mkdir $4; echo new >$4/file; : >$4/missing-firmware; [ ! -e ${4%/*/*}/fail ]";
        for (name, script) in [("make-rdz", rdz), ("make-stage2", tree), ("add-key", "cat $1 $2 >$3")] {
            let path = base.join("lib").join(name);
            fs::write(&path, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn a_script_that_fails_leaves_the_old_image_as_it_was() {
        let base = tempfile::tempdir().unwrap();
        complete(base.path());
        let (args, places) = (args(base.path()), places(base.path()));
        let read = |file: &str| fs::read_to_string(base.path().join(file)).unwrap();
        run(&args, &places).unwrap();
        for file in ["boot/vmlinuz", "boot/all.rdz", "stage2/file"] {
            assert_eq!(read(file), "new\n", "{file}");
            fs::write(base.path().join(file), "old").unwrap();
        }
        fs::write(base.path().join("fail"), "").unwrap();
        let error = run(&args, &places).unwrap_err().to_string();
        assert!(error.contains("make-stage2"), "{error}");
        for file in ["boot/vmlinuz", "boot/all.rdz", "stage2/file"] {
            assert_eq!(read(file), "old", "{file}");
        }
        let hidden = fs::read_dir(base.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
        assert_eq!(hidden.count(), 0, "a scratch directory was left behind");
    }

    #[test]
    fn a_new_key_takes_the_place_of_the_old_one_only() {
        let base = tempfile::tempdir().unwrap();
        complete(base.path());
        let (args, places) = (args(base.path()), places(base.path()));
        run(&args, &places).unwrap();
        run(&ImageArgs { key_only: true, ..args }, &places).unwrap();
        let all = fs::read_to_string(places.boot.join("all.rdz")).unwrap();
        assert_eq!(all, "new\njoin.key");
    }
}
