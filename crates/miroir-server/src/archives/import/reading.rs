//! Going through the entries of a dump, without ever unpacking it: nothing in it can lead anywhere.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use miroir_core::dump::Entry;
use tar::{Archive, EntryType};

/// Why a dump was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Something is wrong with the dump.
    #[error("{0}")]
    Wrong(String),
    /// The file cannot be read.
    #[error(transparent)]
    File(io::Error),
    /// Nobody wants it any more.
    #[error("it was given up")]
    GivenUp,
}

impl Fault {
    /// A fault in the dump.
    pub fn wrong(reason: impl Into<String>) -> Self {
        Self::Wrong(reason.into())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::wrong(
                "it ends in the middle. Copy it again from where it was made, or make another one",
            ),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => Self::wrong(
                format!("it is damaged ({error}). Copy it again from where it was made, or make another"),
            ),
            _ => Self::File(error),
        }
    }
}

/// Shows every file of a dump to `visit`, in the order in which they come, and reads to the end, where a checksum is.
pub(super) fn walk(
    path: &Path,
    mut visit: impl FnMut(Entry, &mut dyn Read) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(Fault::File)?);
    if !file.fill_buf().map_err(Fault::File)?.starts_with(&[0x1f, 0x8b]) {
        return Err(Fault::wrong(
            "it is not gzipped, so it is no dump. Send the file that Meilisearch wrote into its --dump-dir as it is",
        ));
    }
    let mut archive = Archive::new(GzDecoder::new(file));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| {
            Fault::wrong("an entry has a name that is not UTF-8. Meilisearch makes no such dump")
        })?;
        let unsafe_entry = |what: &str| {
            let message =
                format!("its entry `{name}` {what}. Meilisearch makes no such dump: do not trust it");
            Fault::Wrong(message)
        };
        let Some(known) = Entry::of(&name) else {
            return Err(unsafe_entry("leads out of it"));
        };
        match kind {
            EntryType::Regular | EntryType::Continuous => visit(known, &mut entry)?,
            EntryType::Directory | EntryType::XGlobalHeader => {}
            _ => return Err(unsafe_entry("is a link or a device")),
        }
    }
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

/// Reads lines that are not longer than `limit`, without their ends.
pub(super) struct Lines<R> {
    source: R,
    line: Vec<u8>,
    limit: usize,
}

impl<R: BufRead> Lines<R> {
    /// The lines of a source.
    pub fn new(source: R, limit: usize) -> Self {
        Self { source, line: Vec::new(), limit }
    }

    /// The next line that is not empty; `None` at the end.
    pub fn next(&mut self) -> Result<Option<&[u8]>, Fault> {
        loop {
            self.line.clear();
            let mut bounded = (&mut self.source).take(self.limit as u64 + 1);
            if bounded.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            if self.line.len() > self.limit {
                let limit = self.limit;
                return Err(Fault::wrong(format!(
                    "it has a line of more than {limit} bytes; raise `max_body_bytes`"
                )));
            }
            let length = self.line.trim_ascii_end().len();
            self.line.truncate(length);
            if length > 0 {
                break;
            }
        }
        Ok(Some(&self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded() {
        let mut lines = Lines::new(&b"one\n\n  \ntwo\r\nthree"[..], 5);
        assert_eq!(lines.next().unwrap(), Some(&b"one"[..]));
        assert_eq!(lines.next().unwrap(), Some(&b"two"[..]));
        assert_eq!(lines.next().unwrap(), Some(&b"three"[..]));
        assert_eq!(lines.next().unwrap(), None);
        assert!(matches!(Lines::new(&b"longer\n"[..], 5).next(), Err(Fault::Wrong(_))));
    }
}
