//! Offers to create what a run lacks, if a person is there to answer.

use std::io::{self, BufRead, IsTerminal, Write};

use ka_host::terminal;

use super::image::{self, ImageArgs, Places};
use super::init;
use crate::config::Config;
use crate::config::keys;

/// Creates the keys and the image if they are missing and the operator wants that. What is missing afterwards
/// is reported with everything else.
///
/// # Errors
/// They cannot be created.
pub(super) fn what_is_missing(config: &Config) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() || !terminal::err_is_terminal() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let directories = &config.directories;
    let key_files = [keys::controller_file(&directories.keys), keys::join_file(&directories.keys)];
    if !key_files.iter().any(|file| file.exists())
        && wants("There are no keys yet. Create them now, as 'kactl init' does?")?
    {
        init::keys(&directories.keys).map_err(|failure| failure.error)?;
    }
    let boot = directories.boot();
    let image = [boot.join("vmlinuz"), boot.join("all.rdz"), directories.stage2()];
    if keys::load(&directories.keys).is_ok()
        && !image.iter().any(|part| part.exists())
        && wants("There is no image for the nodes yet. Build it now, as 'kactl image' does?")?
    {
        image::run(&ImageArgs::default(), &Places::of(directories))?;
    }
    Ok(())
}

fn wants(question: &str) -> io::Result<bool> {
    asked(question, &mut io::stdin().lock(), &mut terminal::err())
}

/// Only a complete "yes" counts.
fn asked(question: &str, input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<bool> {
    write!(output, "{question} [yes/no] ")?;
    output.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_creates_something() {
        for (answer, wanted) in [("yes\n", true), ("YES", true), ("", false), ("y\n", false), ("no\n", false)]
        {
            let mut output = Vec::new();
            assert_eq!(asked("Now?", &mut answer.as_bytes(), &mut output).unwrap(), wanted, "{answer:?}");
            assert_eq!(output, b"Now? [yes/no] ");
        }
    }
}
