//! The file of a dump while it is written: under another name until it is whole, and gone if it never is.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// How files that are not whole end.
const UNFINISHED: &str = ".unfinished";

/// A file that is removed unless it is kept.
pub(crate) struct Temporary {
    path: PathBuf,
    is_kept: bool,
}

impl Temporary {
    /// A file to be written in a directory, which is made if need be.
    pub fn create(directory: &Path, name: &str) -> io::Result<(Self, File)> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join(format!("{name}{UNFINISHED}"));
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        // Settings have keys of embedders in them.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok((Self { path: path.clone(), is_kept: false }, options.open(&path)?))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its final name, for good.
    pub fn keep_as(mut self, file: &File, target: &Path) -> io::Result<()> {
        file.sync_all()?;
        std::fs::rename(&self.path, target)?;
        self.is_kept = true;
        let directory = target.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished file stays behind");
        }
    }
}

/// Removes what an earlier life of the process left unfinished.
pub(crate) fn remove_unfinished(directory: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A dump being written. All of it blocks.
pub(super) struct DumpFile {
    archive: Builder<GzEncoder<BufWriter<File>>>,
    temporary: Temporary,
    target: PathBuf,
    made_at: u64,
}

impl DumpFile {
    /// Begins `{directory}/{uid}.dump`.
    pub fn create(directory: &Path, uid: &str) -> io::Result<Self> {
        let name = format!("{uid}.dump");
        let (temporary, file) = Temporary::create(directory, &name)?;
        let archive = Builder::new(GzEncoder::new(BufWriter::new(file), Compression::default()));
        let made_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(Self { archive, temporary, target: directory.join(name), made_at })
    }

    /// Adds a directory.
    pub fn add_directory(&mut self, name: &str) -> io::Result<()> {
        let mut header = self.header(0, 0o755);
        header.set_entry_type(EntryType::Directory);
        self.archive.append_data(&mut header, name, io::empty())
    }

    /// Adds a file with this content.
    pub fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.add_from(name, content.len() as u64, content)
    }

    /// Adds a file whose content is read from somewhere.
    pub fn add_from(&mut self, name: &str, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = self.header(size, 0o644);
        self.archive.append_data(&mut header, name, content)
    }

    fn header(&self, size: u64, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(self.made_at);
        header
    }

    /// Makes it a dump: on disk, under its name.
    pub fn finish(self) -> io::Result<()> {
        let mut buffered = self.archive.into_inner()?.finish()?;
        buffered.flush()?;
        let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.temporary.keep_as(&file, &self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dumps");
        let mut file = DumpFile::create(&path, "1").unwrap();
        file.add_directory("indexes/").unwrap();
        file.add("metadata.json", b"{}").unwrap();
        assert_eq!(names(&path), ["1.dump.unfinished"]);
        file.finish().unwrap();
        assert_eq!(names(&path), ["1.dump"]);

        drop(DumpFile::create(&path, "2").unwrap());
        assert_eq!(names(&path), ["1.dump"], "given up");
        std::mem::forget(DumpFile::create(&path, "3").unwrap().temporary);
        remove_unfinished(&path).unwrap();
        assert_eq!(names(&path), ["1.dump"], "left by an earlier life");
        remove_unfinished(&directory.path().join("nowhere")).unwrap();
    }
}
