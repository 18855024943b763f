//! Output files. Each is checked before anything else happens, so that a missing folder is reported before the run, and
//! written once its text is complete.
//!
//! | file                                            | how it is written                                   |
//! |-------------------------------------------------|-----------------------------------------------------|
//! | new or plain                                    | to a temporary file, then renamed: never incomplete |
//! | plain, but it cannot be replaced                | in place                                            |
//! | device, FIFO, open descriptor                   | as a stream; it is never replaced                   |
//! | job summary of GitHub Actions, as Markdown      | appended                                            |
//! | `-`, or the file that standard output refers to | by [`Report`], like all data                        |
//!
//! A file cannot be replaced if it has hard links or another owner, or if its folder does not accept new files.
//! Symbolic links are followed.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::export::{self, Kind};
use super::target::{self, Target, folder};
use super::{Format, Report, ReportFile};
use crate::error::Error;
use crate::exit::Exit;
use crate::result::{FleetResult, RunResult};

/// Timeout for a reader to open a FIFO.
const READER_BOUND: Duration = Duration::from_secs(10);
/// Environment variable with the path of the Markdown job summary of GitHub Actions.
const JOB_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// A file to write.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    #[cfg_attr(not(unix), expect(dead_code, reason = "only Unix has modes"))]
    mode: u32,
    append: bool,
}

/// The files that a command writes in addition to its output.
#[derive(Debug, Default)]
pub struct Files {
    /// Reports of the result.
    pub reports: Vec<(Kind, OutputFile)>,
    /// The note for the SOC.
    pub note: Option<OutputFile>,
}

impl OutputFile {
    /// Checks that the file can be written. Changes nothing and does not open a FIFO.
    ///
    /// # Errors
    /// Fails if the folder does not exist or the file cannot be written.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::with_mode(path, 0o666)
    }

    /// Checks that an executable file can be written.
    ///
    /// # Errors
    /// Returns the same errors as [`OutputFile::open`].
    pub fn program(path: &Path) -> Result<Self, Error> {
        Self::with_mode(path, 0o777)
    }

    fn with_mode(path: &Path, mode: u32) -> Result<Self, Error> {
        let file = Self {
            path: path.to_owned(),
            mode,
            append: false,
        };
        file.check().map_err(|source| file.unwritable(source))?;
        Ok(file)
    }

    /// Creates the error that the file cannot be written, detected before anything else happened.
    fn unwritable(&self, source: io::Error) -> Error {
        Error::Unwritable {
            what: self.to_string(),
            source,
        }
    }

    fn check(&self) -> io::Result<()> {
        match Target::of(&self.path)? {
            Target::New(path) => self.beside(&path).map(drop),
            Target::Plain(path, _) => OpenOptions::new().write(true).open(path).map(drop),
            Target::Stdout | Target::Stderr | Target::Stream(..) => Ok(()),
        }
    }

    /// Writes the file; `report` writes to standard output and standard error.
    ///
    /// # Errors
    /// Fails if the operating system returns an error, or if nothing reads a FIFO.
    pub fn write(&self, text: &str, report: &Report) -> Result<(), Error> {
        self.write_to_target(text, report)
            .map_err(|source| Error::Unwritten {
                what: self.to_string(),
                source,
            })
    }

    fn write_to_target(&self, text: &str, report: &Report) -> io::Result<()> {
        match Target::of(&self.path)? {
            Target::Stdout => report.write_stdout(text),
            Target::Stderr => report.write_stderr(text),
            Target::Stream(path, _) => {
                unless_left(open_stream(path, READER_BOUND)?.write_all(text.as_bytes()))
            }
            Target::New(path) | Target::Plain(path, _) if self.append => append(&path, text),
            Target::New(path) => {
                let mut file = self.beside(&path)?;
                file.write_all(text.as_bytes())?;
                file.persist(&path)?;
                Ok(())
            }
            Target::Plain(path, old) => {
                if !self.replace(&path, &old, text)? {
                    let mut file = OpenOptions::new().write(true).truncate(true).open(&path)?;
                    file.write_all(text.as_bytes())?;
                }
                Ok(())
            }
        }
    }

    /// Replaces a plain file with a new one. Returns `false` if the file cannot be replaced.
    fn replace(&self, path: &Path, old: &Metadata, text: &str) -> io::Result<bool> {
        let Ok(mut file) = self.beside(path) else {
            return Ok(false);
        };
        if !target::is_replaceable(old, file.as_file())? {
            return Ok(false);
        }
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(self.permissions(old))?;
        // Fails if the file is a mount point, as in a container.
        Ok(file.persist(path).is_ok())
    }

    /// Creates a temporary file in the folder of `path`.
    fn beside(&self, path: &Path) -> io::Result<NamedTempFile> {
        #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has permissions to set"))]
        let mut builder = tempfile::Builder::new();
        // The mode of a newly created file: the system's umask still applies.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(self.mode));
        builder.tempfile_in(folder(path))
    }

    /// Returns the permissions of the old file, made executable if this is a program.
    fn permissions(&self, old: &Metadata) -> Permissions {
        #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
        let mut permissions = old.permissions();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            permissions.set_mode(permissions.mode() | (self.mode & 0o111));
        }
        permissions
    }
}

impl fmt::Display for OutputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path == Path::new(target::STDOUT) {
            f.write_str("standard output")
        } else {
            self.path.display().fmt(f)
        }
    }
}

/// Opens a device or a FIFO. Times out after `bound` if the FIFO has no reader.
fn open_stream(path: PathBuf, bound: Duration) -> io::Result<File> {
    let (sender, opened) = mpsc::channel();
    std::thread::spawn(move || sender.send(OpenOptions::new().append(true).open(path)));
    opened.recv_timeout(bound).unwrap_or_else(|_| {
        let message = format!("no reader opened it within {} s", bound.as_secs());
        Err(io::Error::new(ErrorKind::TimedOut, message))
    })
}

/// Appends a text to a plain file, as a separate paragraph.
fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let break_before = if file.metadata()?.len() > 0 { "\n" } else { "" };
    file.write_all(format!("{break_before}{text}").as_bytes())
}

/// Ignores the error of a reader that stopped early, as in `| head`.
pub(super) fn unless_left(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| match error.kind() {
        ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

impl Report {
    /// Checks the files that a command writes: its reports and the note for the SOC.
    ///
    /// # Errors
    /// Fails if a file cannot be written, if two are the same, or if one is standard output and that carries data for
    /// programs.
    pub fn open_files(&self, reports: &[ReportFile], note: Option<&Path>) -> Result<Files, Error> {
        let open = |report: &ReportFile| -> Result<_, Error> {
            let file = OutputFile::open(&report.path)?;
            let append = report.kind == Kind::Markdown && is_job_summary(&report.path);
            Ok((report.kind, OutputFile { append, ..file }))
        };
        let files = Files {
            reports: reports.iter().map(open).collect::<Result<_, _>>()?,
            note: note.map(OutputFile::open).transpose()?,
        };
        self.check_together(&files)?;
        Ok(files)
    }

    fn check_together(&self, files: &Files) -> Result<(), Error> {
        let mut seen: Vec<(&OutputFile, Target)> = vec![];
        for file in files.reports.iter().map(|(_, file)| file).chain(&files.note) {
            let target = Target::of(&file.path).map_err(|source| file.unwritable(source))?;
            if matches!(target, Target::Stdout) {
                if !matches!(self.output.format, Format::Table | Format::Wide) {
                    return Err(Error::StdoutTaken {
                        file: file.to_string(),
                    });
                }
                self.stdout_taken.store(true, Ordering::Relaxed);
            }
            if let Some((other, _)) = seen.iter().find(|(_, known)| known.is_same(&target)) {
                return Err(Error::ReportsShareFile {
                    first: other.to_string(),
                    second: file.to_string(),
                });
            }
            seen.push((file, target));
        }
        Ok(())
    }

    /// Writes each report, even if another one fails. Reports the failures and returns the resulting exit code.
    pub fn write_reports(&self, files: &Files, result: &RunResult) -> Exit {
        self.write_each(files, |kind| export::render(kind, result))
    }

    /// Like [`Report::write_reports`], for several clusters.
    pub fn write_fleet_reports(&self, files: &Files, fleet: &FleetResult) -> Exit {
        self.write_each(files, |kind| export::render_fleet(kind, fleet))
    }

    fn write_each(&self, files: &Files, render: impl Fn(Kind) -> String) -> Exit {
        let mut exit = Exit::Ok;
        for (kind, file) in &files.reports {
            match file.write(&render(*kind), self) {
                Ok(()) if file.append => self.notice(&format!("appended to the job summary {file}")),
                Ok(()) => {}
                Err(error) => exit = exit.worse(self.error(&error)),
            }
        }
        exit
    }
}

/// Returns whether `path` is the job summary of the current GitHub Actions job.
fn is_job_summary(path: &Path) -> bool {
    let summary = std::env::var_os(JOB_SUMMARY).filter(|summary| !summary.is_empty());
    let target = |path: &Path| Target::of(path).ok();
    let summary = summary.and_then(|summary| target(Path::new(&summary)));
    summary
        .zip(target(path))
        .is_some_and(|(summary, path)| summary.is_same(&path))
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::process::Command;

    use super::super::Output;
    use super::*;
    use crate::kubectl::Kubectl;

    fn write(path: &Path, text: &str) -> Result<(), Error> {
        let report = Report::new(Output::default(), Kubectl::default());
        OutputFile::open(path)?.write(text, &report)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mkfifo(path: &Path) {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn file_has_its_name_only_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        let file = OutputFile::open(&path).unwrap();
        assert_eq!(names(folder.path()), Vec::<String>::new());
        drop(file);
        write(&path, "text").unwrap();
        write(&path, "shorter").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "shorter");
        assert_eq!(names(folder.path()), ["report"]);
    }

    #[test]
    fn symbolic_link_stays_and_its_target_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/old"), "old").unwrap();
        for (link, to, target) in [
            ("link", "sub/old", "sub/old"),
            ("chain", "link", "sub/old"),
            ("dangling", "sub/new", "sub/new"),
            ("sub/up", "../fresh", "fresh"),
            ("dangling-chain", "sub/further", "last"),
        ] {
            symlink(to, at(link)).unwrap();
            if link == "dangling-chain" {
                symlink("../last", at(to)).unwrap();
            }
            write(&at(link), link).unwrap();
            assert_eq!(fs::read_link(at(link)).unwrap(), Path::new(to));
            assert_eq!(fs::read_to_string(at(target)).unwrap(), link);
            assert!(!at(target).is_symlink(), "{link}");
        }
    }

    #[test]
    fn existing_file_keeps_its_mode_and_its_hard_links() {
        let folder = tempfile::tempdir().unwrap();
        let (path, further) = (folder.path().join("report"), folder.path().join("further"));
        for mode in [0o600, 0o640, 0o664, 0o755] {
            fs::write(&path, "a longer old text").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            write(&path, "new").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        }
        fs::hard_link(&path, &further).unwrap();
        write(&path, "newer").unwrap();
        assert_eq!(fs::read_to_string(&further).unwrap(), "newer");
        assert_eq!(names(folder.path()), ["further", "report"]);
    }

    #[test]
    fn program_becomes_executable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let report = Report::new(Output::default(), Kubectl::default());
        for old in [None, Some(0o644)] {
            if let Some(mode) = old {
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
            OutputFile::program(&path)
                .unwrap()
                .write("text", &report)
                .unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o100, 0o100);
        }
    }

    /// A thread's name is in a writable file whose folder does not accept new files.
    #[cfg(target_os = "linux")]
    #[test]
    fn file_of_a_folder_that_takes_no_new_file_is_written_in_place() {
        let path = Path::new("/proc/thread-self/comm");
        write(path, "written").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "written\n");
    }

    #[test]
    fn fifo_is_written_through_and_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, link) = (folder.path().join("fifo"), folder.path().join("link"));
        mkfifo(&fifo);
        symlink("fifo", &link).unwrap();
        for path in [&fifo, &link] {
            let file = OutputFile::open(path).unwrap();
            let fifo = fifo.clone();
            let reader = std::thread::spawn(move || fs::read_to_string(fifo).unwrap());
            let report = Report::new(Output::default(), Kubectl::default());
            file.write("through", &report).unwrap();
            assert_eq!(reader.join().unwrap(), "through");
        }
        assert_eq!(names(folder.path()), ["fifo", "link"]);
        assert!(link.is_symlink());
        assert!(!fs::metadata(&fifo).unwrap().is_file());
    }

    #[test]
    fn fifo_without_a_reader_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        mkfifo(&fifo);
        let error = open_stream(fifo, Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "no reader opened it within 0 s");
    }

    #[test]
    fn unwritable_file_is_found_before_anything_happens() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("plain"), "text").unwrap();
        symlink("no/report", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let before = names(folder.path());
        for (name, cause) in [
            ("no/report", "no such file or directory"),
            ("dangling", "no such file or directory"),
            ("loop", "too many levels of symbolic links"),
            ("plain/report", "not a directory"),
            ("", "is a directory"),
            ("new/", "is a directory"),
            ("plain/", "not a directory"),
            ("socket", "it is a socket"),
            (&"x".repeat(300), "file name too long"),
        ] {
            let error = OutputFile::open(&at(name)).unwrap_err();
            let expected = format!("failed to write {}: {cause}", at(name).display());
            assert_eq!((error.to_string(), error.exit()), (expected, Exit::Usage));
        }
        for name in ["", "..", "/"] {
            assert!(OutputFile::open(Path::new(name)).is_err(), "{name:?}");
        }
        assert_eq!(names(folder.path()), before);
        assert_eq!(fs::read_to_string(at("plain")).unwrap(), "text");
    }
}
