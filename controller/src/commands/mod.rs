//! One file per subcommand.

mod ask_again;
pub mod desc;
mod gather;
pub mod go;
pub mod image;
pub mod init;
pub mod options;
pub mod pxe;
pub mod run;
pub mod select;
pub mod send;
mod watch;
