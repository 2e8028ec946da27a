//! One file per subcommand: it reads the options, calls the workflow, and prints the outcome.

mod conclude;
pub mod config;
pub mod console;
pub mod desc;
pub mod doctor;
pub mod exec;
pub mod go;
pub mod image;
pub mod init;
pub mod log;
pub mod machines;
mod named;
mod offer;
pub mod options;
pub mod power;
pub mod pxe;
pub mod resume;
pub mod run;
pub mod send;
