//! Reading archives from strangers: hashed, and cut off at a limit.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::{Compression, Digest, Error, Result};

/// A reader that hashes what passes, and fails once more than `limit` bytes have passed.
#[derive(Debug)]
pub(super) struct Metered<R> {
    inner: R,
    hasher: Sha256,
    passed: u64,
    limit: u64,
}

impl<R: Read> Metered<R> {
    pub(super) fn new(inner: R, limit: u64) -> Self {
        Self { inner, hasher: Sha256::new(), passed: 0, limit }
    }

    /// The error to report for `source`, which came from this reader or a parser on top of it.
    pub(super) fn error(&self, what: &'static str, source: io::Error) -> Error {
        if self.passed > self.limit {
            return Error::TooLarge { what: "bytes", limit: self.limit };
        }
        Error::ReadStream { what, source }
    }

    /// Reads to the end and returns the digest of everything that passed.
    pub(super) fn finish(mut self, what: &'static str) -> Result<Digest> {
        match io::copy(&mut self, &mut io::sink()) {
            Ok(_) => Ok(Digest::of_hasher(self.hasher)),
            Err(source) => Err(self.error(what, source)),
        }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.passed += read as u64;
        if self.passed > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(read)
    }
}

/// Undoes the compression.
pub(super) fn decompress<'a>(
    reader: impl BufRead + 'a,
    compression: Compression,
) -> Box<dyn Read + 'a> {
    match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
    }
}

/// Tells the compression from the first bytes; media types in the wild are wrong too often.
///
/// # Errors
/// [`Error::Refused`] for zstd.
pub(super) fn detect<R: Read>(reader: R) -> Result<(BufReader<R>, Compression)> {
    let mut reader = BufReader::with_capacity(128 * 1024, reader);
    let start = reader.fill_buf().map_err(|source| Error::ReadStream { what: "layer", source })?;
    let compression = match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let why = "is compressed with zstd, which is not supported; use gzip or none";
            return Err(Error::Refused { entry: "the tar".into(), why });
        }
        _ => Compression::None,
    };
    Ok((reader, compression))
}
