//! What a boot loader would start, read from its configuration: GRUB's menu, and Boot Loader Specification
//! entries, which systemd-boot uses, and GRUB on Fedora and its relatives.

pub mod bls;
pub mod grub;

/// What a boot loader starts, with the loader's own paths: they begin at the root of some partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MenuEntry {
    /// The kernel.
    pub kernel: String,
    /// The distribution's initrd, if the entry has one.
    pub initrd: Option<String>,
    /// The kernel's command line.
    pub command_line: String,
}

/// Whether a word contains a variable that is empty elsewhere and only affects appearance or tuning: Ubuntu's
/// for the splash screen, and tuned's.
fn is_dispensable(word: &str) -> bool {
    matches!(word, "$vt_handoff" | "${vt_handoff}" | "$tuned_params" | "$tuned_initrd")
}
