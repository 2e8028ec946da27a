//! What a run's two sessions are called: the one that brings stage2, and the run itself.

/// The session of stage2 when nothing else is said.
pub const STAGE2: &str = "getstage2";
/// The run when nothing else is said.
pub const INSTALL: &str = "kainstall";

/// The session that brings stage2 to the nodes of the run `install`.
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
}
