//! The unit by which a clone reports, once, that it has booted from its own disk.
//!
//! It runs the agent's `booted`, which sends the token and then removes the unit, itself and its directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

use ka::plan::FirstBoot;

use crate::finish::error::Cause;
use crate::finish::replace::{create, label_like, label_like_directory};
use ka::first_boot::{DIRECTORY, MESSAGE, UNIT};

const UNITS: &str = "etc/systemd/system";

/// Writes the unit, the token and `agent`, the static program, below `root`.
pub(in crate::finish) fn write(root: &Path, first_boot: &FirstBoot, mut agent: File) -> Result<(), Cause> {
    if !ka_host::system::runs_units(root) {
        warning!("the copied system has no systemd: its first boot will not be reported");
        return Ok(());
    }
    let directory = root.join(DIRECTORY.trim_start_matches('/'));
    fs::create_dir_all(&directory).map_err(|e| Cause::file("make", &directory, e))?;
    label_like_directory(&directory)?;
    let program = directory.join("ka-agent");
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o755)
        .open(&program)
        .and_then(|mut file| io::copy(&mut agent, &mut file))
        .map_err(|e| Cause::file("copy the agent to", &program, e))?;
    let message = directory.join(MESSAGE);
    let text = format!("{}\n{}\n", first_boot.controller, first_boot.token);
    // An existing file would keep its mode, and others could read the secret.
    match fs::remove_file(&message) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Cause::file("replace", &message, e)),
        _ => {}
    }
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&message)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Cause::file("make", &message, e))?;
    label_like_directory(&message)?;
    // systemd may start nothing else.
    if root.join("usr/bin").is_dir() {
        label_like(&root.join("usr/bin"), &program)?;
    }
    let unit = root.join(UNITS).join(UNIT);
    let wants = root.join(UNITS).join("multi-user.target.wants");
    fs::create_dir_all(&wants).map_err(|e| Cause::file("make", &wants, e))?;
    create(&unit, unit_text().as_bytes())?;
    let link = wants.join(UNIT);
    match symlink(Path::new("..").join(UNIT), &link) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome.map_err(|e| Cause::file("make", &link, e)),
    }
}

/// It does not wait for the network, which the program retries long enough: a boot must not be delayed by it.
fn unit_text() -> String {
    let directory = DIRECTORY;
    format!(
        "[Unit]\n\
         Description=Tell ka that this machine runs from its own disk\n\
         After=network.target\n\
         ConditionPathExists={directory}/{message}\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStart={directory}/ka-agent booted\n",
        message = MESSAGE
    )
}
