//! Files that are written beside the output. Each is opened before anything else happens, so that a folder
//! that is not there is no surprise after the run, and gets its name only when it is complete.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::exit::Exit;
use crate::result::Problem;

/// A file to be written.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl OutputFile {
    /// Makes sure that the file can be written.
    ///
    /// # Errors
    /// When its folder does not exist or cannot be written to.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        Self::with_mode(path, 0o666)
    }

    /// The same for a file that is to be run.
    ///
    /// # Errors
    /// When its folder does not exist or cannot be written to.
    pub fn program(path: &Path) -> Result<Self, Problem> {
        Self::with_mode(path, 0o777)
    }

    #[cfg_attr(not(unix), expect(unused_variables, reason = "only Unix has modes"))]
    fn with_mode(path: &Path, mode: u32) -> Result<Self, Problem> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has permissions to set"))]
        let mut builder = tempfile::Builder::new();
        // Those of a file that is made in the usual way; the system's mask still applies.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
        let file = builder.tempfile_in(folder.unwrap_or(Path::new(".")));
        let file = file.map_err(|error| unwritable(path.display(), &error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Writes it, in place of one that may be there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(mut self, text: &str) -> Result<(), Problem> {
        let written = self.file.write_all(text.as_bytes());
        let kept = written.and_then(|()| Ok(self.file.persist(&self.path)?));
        kept.map(|_| ())
            .map_err(|error| unwritten(self.path.display(), &error))
    }
}

/// The problem that `what` cannot be written, found before anything else happened.
pub fn unwritable(what: impl fmt::Display, error: &io::Error) -> Problem {
    Problem {
        exit: Exit::Usage,
        ..unwritten(what, error)
    }
}

/// The problem that `what` could not be written.
pub fn unwritten(what: impl fmt::Display, error: &io::Error) -> Problem {
    Problem {
        message: format!("failed to write {what}: {}", cause(error)),
        hint: None,
        details: vec![],
        exit: Exit::Unwritten,
    }
}

/// The reason in the form of messages: without the number that the standard library adds, and the name of a
/// temporary file.
fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let end = [" at path \"", " (os error "]
        .iter()
        .filter_map(|end| text.find(end))
        .min();
    let mut text = text[..end.unwrap_or(text.len())].to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_only_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        let file = OutputFile::open(&path).unwrap();
        assert!(!path.exists());
        file.write("text").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
        drop(OutputFile::open(&path).unwrap());
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
        let path = folder.path().join("no/report");
        let problem = OutputFile::open(&path).unwrap_err();
        let expected = format!("failed to write {}: no such file or directory", path.display());
        assert_eq!((problem.message, problem.exit), (expected, Exit::Usage));
    }
}
