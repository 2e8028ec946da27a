//! The names of a run's two sessions: the one that delivers stage2, and the run itself.

/// The default name of the stage2 session.
pub const STAGE2: &str = "getstage2";
/// The default name of the run.
pub const INSTALL: &str = "kainstall";

/// Whether this is a valid session name: 1 to [`MAX_LENGTH`] ASCII letters, digits and `-`, `_`, `.`, not
/// beginning with `-` or `.`. A name becomes a file name on the golden node and a word on the nodes' kernel
/// command line, so both sides check it before use.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= MAX_LENGTH && !name.starts_with(['.', '-']) && name.chars().all(good)
}

/// The longest name.
pub const MAX_LENGTH: usize = 64;

/// The session that delivers stage2 to the nodes of the run `install`.
#[must_use]
pub fn stage2_of(install: &str) -> String {
    if install == INSTALL { STAGE2.to_owned() } else { format!("{STAGE2}.{install}") }
}

/// The run whose nodes fetch stage2 in the session `stage2`.
#[must_use]
pub fn install_of(stage2: &str) -> String {
    match stage2.strip_prefix(STAGE2).and_then(|rest| rest.strip_prefix('.')) {
        Some(install) => install.to_owned(),
        None => INSTALL.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_leads_to_the_other() {
        for install in [INSTALL, "lab", "room.7", "getstage2"] {
            assert_eq!(install_of(&stage2_of(install)), install);
        }
        assert_eq!(stage2_of(INSTALL), STAGE2);
    }

    #[test]
    fn a_name_is_no_path_and_no_option() {
        for good in ["a", "getstage2.lab-7", "Room_3"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in
            ["", ".", "..", "../x", "/dev/watchdog", "a/b", "-x", "a b", "ä", &"x".repeat(MAX_LENGTH + 1)]
        {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
