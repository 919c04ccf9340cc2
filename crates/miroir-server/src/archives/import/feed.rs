//! The documents of a dump in batches, always cut at the same places: what was sent before a stop is left out after it.

use std::collections::HashMap;
use std::io::BufReader;
use std::path::Path;

use bytes::Bytes;
use miroir_core::dump::Entry;
use tokio::sync::mpsc;

use super::reading::{Fault, Lines, walk};

/// A batch has no more documents than this, and no more bytes but for its last document.
const MOST_DOCUMENTS: u64 = 5_000;
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Documents to be sent together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Place of the index among those of the import.
    pub index: usize,
    /// Place of the batch among those of the index.
    pub number: u64,
    /// Documents of the index before it.
    pub before: u64,
    /// Documents in it.
    pub documents: u64,
    /// A document per line.
    pub body: Bytes,
}

/// What to feed.
pub(super) struct Feed {
    /// For the directory of each index, its place among those of the import.
    pub places: HashMap<String, usize>,
    /// For each index of the import, how many batches have been sent.
    pub sent: Vec<u64>,
    /// A line is not longer than this.
    pub longest_line: usize,
}

impl Feed {
    /// Hands over all batches that have not been sent. Blocks.
    pub fn run(&self, path: &Path, sink: &mpsc::Sender<Batch>) -> Result<(), Fault> {
        walk(path, |entry, content| {
            let Entry::Documents(directory) = entry else { return Ok(()) };
            let Some(index) = self.places.get(&directory) else { return Ok(()) };
            let lines = Lines::new(BufReader::with_capacity(1 << 16, content), self.longest_line);
            self.cut(*index, lines, sink)
        })
    }

    fn cut<R: std::io::BufRead>(
        &self,
        index: usize,
        mut lines: Lines<R>,
        sink: &mpsc::Sender<Batch>,
    ) -> Result<(), Fault> {
        let sent = self.sent.get(index).copied().unwrap_or(0);
        let (mut body, mut number, mut before, mut documents) = (Vec::new(), 0, 0, 0);
        loop {
            let line = lines.next()?;
            let is_last = line.is_none();
            if let Some(line) = line {
                body.extend_from_slice(line);
                body.push(b'\n');
                documents += 1;
            }
            let is_full = documents >= MOST_DOCUMENTS || body.len() >= MOST_BYTES;
            if documents > 0 && (is_last || is_full) {
                let body = Bytes::from(std::mem::take(&mut body));
                if number >= sent {
                    let batch = Batch { index, number, before, documents, body };
                    sink.blocking_send(batch).map_err(|_| Fault::GivenUp)?;
                }
                number += 1;
                before += documents;
                documents = 0;
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(documents: u64, sent: u64) -> Vec<(u64, u64, u64)> {
        let lines: String = (0..documents).map(|id| format!("{{\"id\":{id}}}\n")).collect();
        let (sink, mut source) = mpsc::channel(100);
        let feed = Feed { places: HashMap::new(), sent: vec![sent], longest_line: 100 };
        feed.cut(0, Lines::new(lines.as_bytes(), 100), &sink).unwrap();
        drop(sink);
        let mut batches = Vec::new();
        while let Ok(batch) = source.try_recv() {
            batches.push((batch.number, batch.before, batch.documents));
        }
        batches
    }

    #[test]
    fn batches_are_the_same_each_time_and_those_sent_are_left_out() {
        assert_eq!(batches(0, 0), []);
        let whole = [(0, 0, MOST_DOCUMENTS), (1, MOST_DOCUMENTS, MOST_DOCUMENTS), (2, 2 * MOST_DOCUMENTS, 1)];
        assert_eq!(batches(2 * MOST_DOCUMENTS + 1, 0), whole);
        assert_eq!(batches(2 * MOST_DOCUMENTS + 1, 2), whole[2..]);
        assert_eq!(batches(2 * MOST_DOCUMENTS, 2), []);
    }
}
