//! One file per subcommand: it reads the options, calls the workflow, and prints what came of it.

mod conclude;
pub mod desc;
pub mod go;
pub mod image;
pub mod init;
pub mod options;
pub mod pxe;
pub mod resume;
pub mod run;
pub mod send;
