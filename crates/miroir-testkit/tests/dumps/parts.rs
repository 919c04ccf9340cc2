//! Dumps taken apart and put together again, otherwise than any Meilisearch would.

use std::io::{Read, Write};
use std::path::Path;

use serde_json::Value;

/// The files of a dump, to be changed.
pub struct Parts(pub Vec<(String, Vec<u8>)>);

impl Parts {
    pub fn read(dump: &Path) -> Self {
        let file = std::fs::File::open(dump).expect("the dump is there");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut parts = Vec::new();
        for entry in archive.entries().expect("a dump is an archive") {
            let mut entry = entry.expect("a dump is whole");
            if entry.header().entry_type().is_file() {
                let name = entry.path().expect("names are UTF-8").display().to_string();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("a dump is whole");
                parts.push((name, content));
            }
        }
        Self(parts)
    }

    /// The values in a file that has one on each line.
    pub fn lines(&self, name: &str) -> Vec<Value> {
        let (_, content) = self.0.iter().find(|(other, _)| other == name).expect("the file is there");
        let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("it is JSON")).collect()
    }

    /// The same with one file's content replaced.
    pub fn with(&self, name: &str, content: &str) -> Self {
        let mut parts: Vec<_> = self.0.iter().filter(|(other, _)| other != name).cloned().collect();
        parts.push((name.to_owned(), content.as_bytes().to_vec()));
        Self(parts)
    }

    pub fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(other, _)| other != name).cloned().collect())
    }

    pub fn tar(&self, link: Option<&str>) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            // As somebody would write it who does not use a library that refuses it.
            header.as_gnu_mut().expect("it is one").name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, content.as_slice()).expect("memory can be written");
        }
        if let Some(target) = link {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, "indexes/link", target).expect("memory can be written");
        }
        archive.into_inner().expect("memory can be written")
    }

    pub fn dump(&self) -> Vec<u8> {
        gzip(&self.tar(None))
    }
}

/// Bytes as they are in a dump.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}
