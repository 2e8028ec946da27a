//! Copies a stream into a writer.

use std::io::{self, BufRead};

use ka_net::relay::{StreamError, StreamReader};

use super::error::SinkError;

/// Copies everything; errors of the stream keep their type.
pub(super) fn copy(
    stream: &mut StreamReader,
    error: impl Fn(io::Error) -> SinkError,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), SinkError> {
    loop {
        let bytes = match stream.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(bytes) => bytes,
            Err(e) => {
                return Err(match e.downcast::<StreamError>() {
                    Ok(stream) => stream.into(),
                    Err(e) => error(e),
                });
            }
        };
        write(bytes).map_err(&error)?;
        let length = bytes.len();
        stream.consume(length);
    }
}
