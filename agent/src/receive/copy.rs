//! A stream's bytes into a writer.

use std::io::{self, BufRead, Write};

use ka_net::relay::{StreamError, StreamReader};

use super::error::SinkError;

/// Copies all; the stream's errors stay the stream's.
pub(super) fn copy(
    stream: &mut StreamReader,
    to: &mut impl Write,
    error: impl Fn(io::Error) -> SinkError,
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
        to.write_all(bytes).map_err(&error)?;
        let length = bytes.len();
        stream.consume(length);
    }
}
