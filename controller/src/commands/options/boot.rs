//! The options for booting the nodes.

use std::str::FromStr;

use ka::inventory::Firmware;
use ka::plan::{BootOrder, BootPlan, FinalAction, Kernels, Loader};

/// The options for booting the nodes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Booting the clones")]
pub struct BootArgs {
    /// Boot loader: grub, grub-legacy, lilo, systemd-boot, extlinux, or none; modules for the initrd may
    /// follow: 'grub --with=MODULE ...'
    #[arg(short = 'r', long, value_name = "LOADER", default_value = "grub")]
    pub loader: LoaderChoice,
    /// Add modules to the nodes' initrd, in addition to those that their hardware needs (repeatable)
    #[arg(long, value_name = "MODULE,...", value_delimiter = ',', value_parser = module)]
    pub with: Vec<String>,
    /// Build the initrd for these installed kernels
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub kernel: KernelChoice,
    /// Set what a node's UEFI firmware tries first from now on
    #[arg(long, value_name = "FIRST", default_value = "network")]
    pub boot_order: OrderChoice,
    /// Require an entry in a node's UEFI boot menu, or only try to add one
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub nvram: NvramChoice,
    /// Select which nodes may be cloned, by their firmware (BIOS, UEFI)
    #[arg(long, value_name = "WHICH", default_value = "same")]
    pub firmware: FirmwareChoice,
    /// Final action of a node: reboot, kexec (start the installed system immediately, without the firmware),
    /// poweroff, or shell
    #[arg(long = "boot", value_name = "HOW", default_value = "reboot")]
    pub after: FinalAction,
}

/// The value of `-r`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderChoice {
    /// The boot loader.
    pub loader: Loader,
    /// Modules that the initrd must contain.
    pub modules: Vec<String>,
}

/// A boot loader's name or `none`, optionally followed by modules: `grub --with=MODULE …`.
impl FromStr for LoaderChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_whitespace();
        let loader = words.next().and_then(Loader::of_name).ok_or_else(|| {
            let names = Loader::ALL.map(Loader::name).join("', '");
            format!("expected '{names}', then --with=MODULE for each module")
        })?;
        let mut modules = Vec::new();
        while let Some(word) = words.next() {
            let listed = match word.strip_prefix("--with=") {
                Some(modules) => modules,
                None if word == "--with" => words.next().unwrap_or_default(),
                None => return Err(format!("expected --with=MODULE, not '{word}'")),
            };
            for name in listed.split(',') {
                modules.push(module(name)?);
            }
        }
        Ok(Self { loader, modules })
    }
}

/// A kernel module's name.
///
/// # Errors
/// The problem.
fn module(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text.is_empty() || !text.chars().all(good) {
        return Err(format!("'{text}' is not a module name"));
    }
    Ok(text.to_owned())
}

/// The values of `--kernel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum KernelChoice {
    /// All installed kernels
    All,
    /// The kernel that boots by default
    Default,
}

/// The values of `--boot-order`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OrderChoice {
    /// The network, then the disk: the boot server continues to decide
    Network,
    /// The disk
    Disk,
}

/// The values of `--nvram`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NvramChoice {
    /// Add an entry for the node's system if the firmware accepts one, otherwise warn: the loader is also at
    /// the path where every firmware looks
    Auto,
    /// Add an entry for the node's system: a node whose firmware accepts none fails
    Require,
}

/// The values of `--firmware`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FirmwareChoice {
    /// Only nodes that boot by the same firmware as this machine; others are refused
    Same,
    /// Other nodes, too, if this system has GRUB for both: UEFI needs an EFI system partition in the
    /// description
    Auto,
}

impl BootArgs {
    /// The settings for every node. The golden node's firmware is not known here.
    #[must_use]
    pub fn plan(&self) -> BootPlan {
        BootPlan {
            initrd_modules: self.loader.modules.iter().chain(&self.with).cloned().collect(),
            kernels: match self.kernel {
                KernelChoice::All => Kernels::All,
                KernelChoice::Default => Kernels::Default,
            },
            convert_firmware: self.firmware == FirmwareChoice::Auto,
            order: match self.boot_order {
                OrderChoice::Network => BootOrder::Network,
                OrderChoice::Disk => BootOrder::Disk,
            },
            require_nvram: self.nvram == NvramChoice::Require,
            ..BootPlan::new(self.loader.loader, Firmware::default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_loaders() {
        for (text, loader, modules) in [
            ("grub", Loader::Grub, &[][..]),
            (" grub  --with=ata_piix,ahci --with piix ", Loader::Grub, &["ata_piix", "ahci", "piix"]),
            ("none", Loader::None, &[]),
            ("systemd-boot", Loader::SystemdBoot, &[]),
        ] {
            let modules = modules.iter().map(|module| (*module).to_owned()).collect();
            assert_eq!(text.parse(), Ok(LoaderChoice { loader, modules }), "{text}");
        }
        for bad in ["", "syslinux", "grub ata_piix", "grub --with=", "grub --with", "grub --with=a;b"] {
            assert!(bad.parse::<LoaderChoice>().is_err(), "{bad}");
        }
    }
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        boot: BootArgs,
    }

    fn plan(line: &str) -> Result<BootPlan, String> {
        let words = std::iter::once("run").chain(line.split('|').filter(|word| !word.is_empty()));
        Line::try_parse_from(words).map(|line| line.boot.plan()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_option_reaches_the_plan() {
        let usual = BootPlan::new(Loader::Grub, Firmware::Bios);
        let modules = |modules: &[&str]| modules.iter().map(|m| (*m).to_owned()).collect::<Vec<_>>();
        for (line, expected) in [
            ("", usual.clone()),
            ("-r|lilo", BootPlan::new(Loader::Lilo, Firmware::Bios)),
            (
                "-r|grub --with=ata_piix --with piix|--with|a,b-c|--with|d",
                BootPlan { initrd_modules: modules(&["ata_piix", "piix", "a", "b-c", "d"]), ..usual.clone() },
            ),
            // The initrd is built even without a boot loader.
            (
                "-r|none|--with|a",
                BootPlan { initrd_modules: modules(&["a"]), ..BootPlan::new(Loader::None, Firmware::Bios) },
            ),
            ("--kernel|default", BootPlan { kernels: Kernels::Default, ..usual.clone() }),
            ("--boot-order|disk", BootPlan { order: BootOrder::Disk, ..usual.clone() }),
            ("--nvram|auto", usual.clone()),
            ("--nvram|require", BootPlan { require_nvram: true, ..usual.clone() }),
            ("--firmware|auto", BootPlan { convert_firmware: true, ..usual }),
        ] {
            assert_eq!(plan(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_there_is() {
        for (line, part) in [
            ("--kernel|6.1", "all, default"),
            ("--boot-order|usb", "network, disk"),
            ("--nvram|never", "auto, require"),
            ("--firmware|uefi", "same, auto"),
            ("--with|a;b", "not a module name"),
            ("--with|a,,b", "not a module name"),
            ("--with|", "--with"),
            ("-r|syslinux", "systemd-boot"),
        ] {
            let error = plan(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
