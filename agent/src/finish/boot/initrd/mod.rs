//! Rebuilds the initrds of the installed kernels on this node with the distribution's own tool.
//!
//! The golden node's initrd may only contain drivers for the golden node's hardware. What this node needs is
//! added to the tool's configuration, so that later kernels have it too. The result is listed: a tool that
//! succeeds without building what was requested is a failure.

mod builder;

use std::collections::BTreeSet;
use std::path::Path;

use ka::plan::{BootPlan, Kernels, Loader};

use crate::finish::error::Cause;
use builder::Builder;
use ka_host::system::{Kernel, Unready, plain, unready};

/// Rebuilds the initrds below `root`, which is the process's root. `hardware` lists the drivers that this
/// node's hardware needs, if a kernel has them.
pub(in crate::finish) fn rebuild(root: &Path, boot: &BootPlan, hardware: &[String]) -> Result<(), Cause> {
    let (which, asked_for) = (boot.kernels, &boot.initrd_modules);
    if boot.loader == Loader::None
        && let Some(Unready::NoKernel(reason)) = unready(root)?
    {
        warning!("no initrd is built: {reason}");
        return Ok(());
    }
    let mut kernels = Kernel::installed(root)?;
    if which == Kernels::Default
        && let Some(default) = ka_host::system::default(root, &kernels)
    {
        kernels.retain(|kernel| kernel.image == default);
    }
    if kernels.is_empty() {
        return Err(Cause::NoKernel);
    }
    if let Some(module) = asked_for.iter().find(|module| kernels.iter().all(|kernel| !kernel.has(module))) {
        return Err(Cause::NoSuchModule { module: module.clone() });
    }
    for module in hardware.iter().filter(|module| kernels.iter().all(|kernel| !kernel.has(module))) {
        warning!(
            "no installed kernel has {module}, which drives this node's hardware now: if the disk needs it, the clone \
             will not start"
        );
    }
    let wanted: BTreeSet<String> = asked_for.iter().chain(hardware).map(|name| plain(name)).collect();
    let Some(builder) = Builder::of_this_system(root) else {
        if kernels.iter().any(|kernel| Builder::ALL.iter().any(|b| b.initrd(root, kernel).exists())) {
            let tool = "update-initramfs, dracut, mkinitcpio or mkinitrd".to_owned();
            return Err(Cause::MissingTool { tool });
        }
        log::info!("this system boots without an initrd");
        return Ok(());
    };
    for kernel in &kernels {
        builder.rebuild(root, kernel, &wanted)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::inventory::Firmware;
    use std::fs;

    #[test]
    fn a_module_that_no_kernel_has_is_refused_before_anything_is_built() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("boot")).unwrap();
        let mut plan = BootPlan::new(Loader::Grub, Firmware::Bios);
        assert!(matches!(rebuild(root.path(), &plan, &[]), Err(Cause::NoKernel)));
        rebuild(root.path(), &BootPlan::new(Loader::None, Firmware::Bios), &[]).unwrap();
        fs::write(root.path().join("boot/vmlinuz-1"), "").unwrap();
        fs::create_dir_all(root.path().join("lib/modules/1")).unwrap();
        plan.initrd_modules = vec!["ata_piix".to_owned()];
        let error = rebuild(root.path(), &plan, &[]).unwrap_err();
        assert_eq!(error.to_string(), "no installed kernel has the module ata_piix");
    }
}
