//! Writes ka-agent's man page, from the definition of its command line, into a directory: `target/manual`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).unwrap_or_default();
    std::fs::create_dir_all(&directory)?;
    clap_mangen::generate_to(ka_agent::cli::command(), directory)
}
