//! The target of a report's path: a plain file, a stream, or standard output.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The path that stands for standard output.
pub(super) const STDOUT: &str = "-";
/// Maximum number of symbolic links to follow, as in Linux.
const MAX_LINKS: usize = 40;

/// The target of a path.
#[derive(Debug)]
pub(super) enum Target {
    Stdout,
    Stderr,
    /// A file that does not exist yet. The folder is canonical.
    New(PathBuf),
    /// A plain file.
    Plain(PathBuf, Metadata),
    /// A device, a FIFO or an open descriptor.
    Stream(PathBuf, Metadata),
}

impl Target {
    pub(super) fn of(named: &Path) -> io::Result<Self> {
        if named == Path::new(STDOUT) {
            return Ok(Target::Stdout);
        }
        let path = follow_links(named);
        let descriptor = descriptor(&path);
        match descriptor {
            Some(1) => return Ok(Target::Stdout),
            Some(2) => return Ok(Target::Stderr),
            _ => {}
        }
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound && descriptor.is_none() => {
                return Self::new(&path);
            }
            Err(error) => return Err(error),
        };
        if found.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if let Some(kind) = system::unwritable_kind(&found) {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("it is a {kind}")));
        }
        if system::is_open_as(&found, &io::stdout()) {
            return Ok(Target::Stdout);
        }
        if system::is_open_as(&found, &io::stderr()) {
            return Ok(Target::Stderr);
        }
        if found.is_file() && descriptor.is_none() {
            return Ok(Target::Plain(path, found));
        }
        if found.permissions().readonly() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        Ok(Target::Stream(path, found))
    }

    fn new(path: &Path) -> io::Result<Self> {
        let is_folder = path
            .as_os_str()
            .as_encoded_bytes()
            .last()
            .is_some_and(|&last| std::path::is_separator(last.into()));
        match path.file_name() {
            Some(name) if !is_folder => Ok(Target::New(fs::canonicalize(folder(path))?.join(name))),
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// Returns whether two reports have the same target. A device accepts any number of reports.
    pub(super) fn is_same(&self, other: &Target) -> bool {
        match (self, other) {
            (Target::Stdout, Target::Stdout) | (Target::Stderr, Target::Stderr) => true,
            (Target::New(one), Target::New(other)) => one == other,
            (Target::Plain(one, found), Target::Plain(other, also_found))
            | (Target::Stream(one, found), Target::Stream(other, also_found)) => {
                system::is_same_file((one, found), (other, also_found))
            }
            _ => false,
        }
    }
}

/// Follows symbolic links in the last part of a path. Links in procfs are kept: they refer to open files, regardless of
/// their text.
fn follow_links(named: &Path) -> PathBuf {
    let mut path = named.to_owned();
    for _ in 0..MAX_LINKS {
        if descriptor(&path).is_some() {
            break;
        }
        let Ok(text) = fs::read_link(&path) else { break };
        let next = folder(&path).join(text);
        if path.exists() && !next.exists() {
            break;
        }
        path = next;
    }
    path
}

/// Returns the number of `path` if it is an open descriptor of this process.
fn descriptor(path: &Path) -> Option<u32> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let folder = fs::canonicalize(folder(path)).ok()?;
    let is_of_process = |fds| fs::canonicalize(fds).is_ok_and(|fds| fds == folder);
    ["/dev/fd", "/proc/self/fd"]
        .into_iter()
        .any(is_of_process)
        .then_some(number)
}

/// Returns the folder of `path`.
pub(super) fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

#[cfg(not(unix))]
use elsewhere as system;
pub(super) use system::is_replaceable;
#[cfg(unix)]
use unix as system;

#[cfg(unix)]
mod unix {
    use std::fs::{File, Metadata};
    use std::io;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    use std::path::Path;

    /// Returns the kind of a special file that cannot be written, or `None`.
    pub(super) fn unwritable_kind(found: &Metadata) -> Option<&'static str> {
        let kind = found.file_type();
        if kind.is_socket() {
            Some("socket")
        } else {
            kind.is_block_device().then_some("block device")
        }
    }

    fn inode(found: &Metadata) -> (u64, u64) {
        (found.dev(), found.ino())
    }

    /// Returns whether `found` is the file or FIFO that `stream` refers to.
    ///
    /// Always `false` for devices: how they were opened does not matter.
    pub(super) fn is_open_as(found: &Metadata, stream: &impl AsFd) -> bool {
        let stream = || File::from(stream.as_fd().try_clone_to_owned()?).metadata();
        !found.file_type().is_char_device() && stream().is_ok_and(|stream| inode(&stream) == inode(found))
    }

    pub(super) fn is_same_file((_, one): (&Path, &Metadata), (_, other): (&Path, &Metadata)) -> bool {
        !one.file_type().is_char_device() && inode(one) == inode(other)
    }

    /// Returns whether a new file in place of the old one would differ only in its content.
    pub(in super::super) fn is_replaceable(old: &Metadata, new: &File) -> io::Result<bool> {
        let new = new.metadata()?;
        Ok(old.nlink() == 1 && (old.uid(), old.gid()) == (new.uid(), new.gid()))
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use std::fs::{self, File, Metadata};
    use std::io;
    use std::path::Path;

    pub(super) fn unwritable_kind(_: &Metadata) -> Option<&'static str> {
        None
    }

    pub(super) fn is_open_as<T>(_: &Metadata, _: &T) -> bool {
        false
    }

    pub(super) fn is_same_file((one, _): (&Path, &Metadata), (other, _): (&Path, &Metadata)) -> bool {
        let canonical = |path| fs::canonicalize(path).ok();
        canonical(one).is_some() && canonical(one) == canonical(other)
    }

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
    pub(in super::super) fn is_replaceable(_: &Metadata, _: &File) -> io::Result<bool> {
        Ok(true)
    }
}
