//! The inputs of an image. All missing ones are reported together.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{ImageArgs, Places};

/// The kernel for the nodes.
pub(super) struct Kernel {
    pub(super) version: String,
    pub(super) image: PathBuf,
    pub(super) modules: PathBuf,
}

impl Kernel {
    pub(super) fn of(args: &ImageArgs) -> Result<Self> {
        let running = rustix::system::uname();
        let version = match &args.kernel {
            Some(version) => version.clone(),
            None => {
                running.release().to_str().context("the running kernel's version is not text")?.to_owned()
            }
        };
        // The version becomes part of paths. Apart from that, distributions use all kinds of characters.
        if version.is_empty()
            || version.starts_with('.')
            || version.contains(|c: char| c == '/' || c.is_control())
        {
            bail!(
                "--kernel {version:?} is not a kernel version: expected the name of a directory in {}",
                args.root.join("lib/modules").display()
            );
        }
        let modules = args.root.join("lib/modules").join(&version);
        // Debian has it in /boot; Fedora, SUSE and Arch have it among the modules as well, some only there.
        let places = [args.root.join("boot").join(format!("vmlinuz-{version}")), modules.join("vmlinuz")];
        let [boot, _] = &places;
        let image = places.iter().find(|place| place.exists()).unwrap_or(boot).clone();
        Ok(Self { version, image, modules })
    }
}

/// Every missing input and tool, each with the command that provides it.
pub(super) fn missing(args: &ImageArgs, places: &Places, kernel: &Kernel) -> Result<Vec<String>> {
    let package =
        format!("apt-get install linux-image-{} (or name another kernel with --kernel)", kernel.version);
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|p| args.root.join(p));
    let busybox = busybox.iter().find(|p| p.exists()).unwrap_or(&busybox[0]);
    let check = places.scripts.join("check");
    let mut missing: Vec<String> = [
        (&kernel.image, package.as_str()),
        (&kernel.modules.join("kernel"), &package),
        (busybox, "apt-get install busybox-static"),
        (&places.agent, "`make agent`, then `make install`; or name it with --agent"),
        (&places.scripts.join("make-rdz"), "`make install`; or name its directory with --lib"),
        (&places.scripts.join("make-stage2"), "`make install`; or name its directory with --lib"),
        (&check, "`make install`; or name its directory with --lib"),
        (&places.key, "`kactl init`"),
    ]
    .iter()
    .filter(|(path, _)| !path.exists())
    .map(|(path, remedy)| format!("{} is missing: {remedy}", path.display()))
    .collect();
    if check.exists() && rustix::process::geteuid().is_root() {
        missing.extend(missing_tools(Command::new(&check).args([&kernel.modules, &args.root]))?);
    }
    Ok(missing)
}

/// The output of `check`: one line per tool.
fn missing_tools(check: &mut Command) -> Result<Vec<String>> {
    let name = check.get_program().to_string_lossy().into_owned();
    let output = check.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}; its reason is above", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Ends with a list of everything missing.
pub(super) fn complain(missing: &[String]) -> Result<()> {
    if !missing.is_empty() {
        bail!("the image cannot be built:\n  {}", missing.join("\n  "));
    }
    if !rustix::process::geteuid().is_root() {
        bail!("the image cannot be built: it contains device nodes, so `kactl image` must run as root");
    }
    Ok(())
}
