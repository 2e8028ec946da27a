//! Writes kactl's man pages and completions, from the definition of its command line, into a directory:
//! `target/manual`.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use kactl::cli::Cli;

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).unwrap_or_default();
    std::fs::create_dir_all(&directory)?;
    clap_mangen::generate_to(Cli::command(), &directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "kactl", &directory)?;
    }
    Ok(())
}
