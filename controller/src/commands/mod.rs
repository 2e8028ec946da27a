//! One file per subcommand.

mod ask_again;
pub mod console;
pub mod desc;
pub mod exec;
mod gather;
pub mod go;
pub mod image;
pub mod init;
pub mod log;
pub mod machines;
mod named;
pub mod options;
pub mod power;
pub mod pxe;
pub mod run;
pub mod select;
pub mod send;
mod watch;
