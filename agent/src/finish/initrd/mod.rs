//! The initrds of the installed kernels, built anew on this node by the distribution's own tool.
//!
//! The golden node's initrd may hold the drivers of the golden node's hardware only. What this node
//! needs is added to the tool's configuration, so that later kernels have it too, and what came out is
//! listed: a tool that succeeds without building what was asked for is a failure.

mod builder;
mod kernel;

use std::collections::BTreeSet;
use std::path::Path;

use ka::plan::Kernels;

use super::error::Cause;
use builder::Builder;
use kernel::{Kernel, plain};

/// Rebuilds the initrds below `root`, which is the process's root. `asked_for` are modules that a person
/// wants in; `hardware` are the drivers that this node's hardware needs, where a kernel has them.
pub(super) fn rebuild(
    root: &Path,
    which: Kernels,
    asked_for: &[String],
    hardware: &[String],
) -> Result<(), Cause> {
    let mut kernels = Kernel::installed(root)?;
    if which == Kernels::Default
        && let Some(default) = kernel::default(root, &kernels)
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
        log::warn!(
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
    use std::fs;

    #[test]
    fn a_module_that_no_kernel_has_is_refused_before_anything_is_built() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("boot")).unwrap();
        assert!(matches!(rebuild(root.path(), Kernels::All, &[], &[]), Err(Cause::NoKernel)));
        fs::write(root.path().join("boot/vmlinuz-1"), "").unwrap();
        fs::create_dir_all(root.path().join("lib/modules/1")).unwrap();
        let error = rebuild(root.path(), Kernels::All, &["ata_piix".to_owned()], &[]).unwrap_err();
        assert_eq!(error.to_string(), "no installed kernel has the module ata_piix");
    }
}
