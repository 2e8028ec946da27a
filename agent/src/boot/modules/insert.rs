//! Loads one module file into the kernel.

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::system::{finit_module, init_module};

/// Makes the kernel decompress the file (`MODULE_INIT_COMPRESSED_FILE`, Linux 5.17, finit_module(2)).
const COMPRESSED_FILE: c_int = 4;

/// Loads the module at `path` with its parameters. The kernel decompresses it; if it cannot, `.zst` files are
/// decompressed here.
///
/// # Errors
/// The kernel's errno; `EEXIST` means that it is already loaded.
pub(super) fn insert(path: &Path, options: &CStr) -> io::Result<()> {
    let file = File::open(path)?;
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
    if suffix == "ko" {
        return Ok(finit_module(&file, options, 0)?);
    }
    match finit_module(&file, options, COMPRESSED_FILE) {
        // Not built in (EOPNOTSUPP), built in for another format (EINVAL, ENOEXEC), or too old to know the
        // flag (EINVAL).
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOEXEC) if suffix == "zst" => {
            Ok(init_module(&zstd::decode_all(&file)?, options)?)
        }
        Err(e @ (Errno::OPNOTSUPP | Errno::INVAL | Errno::NOEXEC)) => Err(io::Error::new(
            io::Error::from(e).kind(),
            format!(
                "this kernel cannot decompress .{suffix} modules: the image must contain uncompressed ones ({e})"
            ),
        )),
        outcome => Ok(outcome?),
    }
}
