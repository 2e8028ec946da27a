//! What a boot loader would start, read from its configuration: GRUB's menu, and the entries of the Boot Loader
//! Specification, which systemd-boot starts, and GRUB on Fedora and its relatives.

pub mod bls;
pub mod grub;

/// What a boot loader starts, with the paths that it knows: they begin at the root of some partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MenuEntry {
    /// The kernel.
    pub kernel: String,
    /// The distribution's initrd, if the entry has one.
    pub initrd: Option<String>,
    /// The kernel's command line.
    pub command_line: String,
}

/// Whether a word holds a variable that only dresses up or tunes, and is empty elsewhere: Ubuntu's, which keeps the
/// screen, and tuned's.
fn is_dispensable(word: &str) -> bool {
    matches!(word, "$vt_handoff" | "${vt_handoff}" | "$tuned_params" | "$tuned_initrd")
}
