//! Reads saved alerts from a file or standard input, as one JSON value or as lines of JSON.
//!
//! Alerts are read one by one, so that memory does not grow with the file.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Deserializer, Map, Value};

use super::source::Answer;
use super::{Result, page};
use crate::files;
use crate::net::{Cause, Explanation};
use crate::verify::{FiredAlert, Item};

/// Limit of a file, in bytes.
pub const MAX_FILE: u64 = 256 << 20;

/// A command that saves alerts. The CSV of the portal lacks the entities.
pub const HOW_TO_SAVE: &str = "save them as JSON, not CSV: az rest --url \
                               \"/subscriptions/ID/providers/Microsoft.Security/alerts?api-version=2022-01-01\" > alerts.json";

/// Size of the read buffer.
const CHUNK: usize = 1 << 16;

/// The place of saved alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// A file, which may be a pipe.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// Parses a path; `-` is standard input.
impl From<&Path> for Saved {
    fn from(path: &Path) -> Self {
        if files::is_stdin(path) {
            Self::Stdin
        } else {
            Self::File(path.to_owned())
        }
    }
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

impl Saved {
    /// Returns the modification time of a regular file, or `None` for a stream.
    pub fn changed(&self) -> Option<Timestamp> {
        let Self::File(path) = self else {
            return None;
        };
        let file = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        Timestamp::try_from(file.modified().ok()?).ok()
    }

    /// Reports whether it is a regular or missing file, which can be read again.
    pub fn is_plain(&self) -> bool {
        match self {
            Self::File(path) => std::fs::metadata(path).map_or(true, |file| file.is_file()),
            Self::Stdin => false,
        }
    }

    /// Passes every alert to `each` and counts other items.
    ///
    /// # Errors
    /// If it does not exist, is too large, is not JSON, or holds the answer to a failed request.
    pub fn read(&self, mut each: impl FnMut(FiredAlert)) -> Result<Answer> {
        let refuse = |message: String| {
            Explanation::new(Cause::Unreadable, message)
                .with_hint(HOW_TO_SAVE)
                .failed_to(format!("read the alerts in {self}"))
        };
        let reader = self.open().map_err(|error| refuse(error.to_string()))?;
        let mut answer = Answer::default();
        let mut item = |Item(value): Item| answer.take(&value, &mut each);
        let mut from = Deserializer::from_reader(reader);
        let mut is_whole = true;
        loop {
            let page =
                page::read(&mut from, &mut item).map_err(|error| refuse(page::describe_error(&error)))?;
            if page.listed {
                is_whole = !is_partial(&page.rest);
            } else if page.rest.contains_key("error") {
                return Err(refuse("it holds the answer to a failed request".to_owned()));
            } else if !page.rest.is_empty() {
                item(Item(Value::Object(page.rest)));
            }
            // In lines of JSON, another value follows.
            if from.end().is_ok() {
                break;
            }
        }
        answer.whole = is_whole;
        Ok(answer)
    }

    /// Opens the content as UTF-8, without a byte-order mark. The parser reads single bytes, so the buffer is the
    /// outermost type, and not behind a virtual call.
    fn open(&self) -> io::Result<BufReader<Box<dyn Read>>> {
        let opened: Box<dyn Read> = match self {
            Self::Stdin => Box::new(io::stdin()),
            Self::File(path) => {
                let file = File::open(path)?;
                let metadata = file.metadata()?;
                if metadata.is_dir() {
                    return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
                }
                if metadata.len() > MAX_FILE {
                    return Err(too_large());
                }
                Box::new(file)
            }
        };
        // A pipe has no length.
        let mut limited = opened.take(MAX_FILE + 1);
        let mut mark = vec![];
        limited.by_ref().take(3).read_to_end(&mut mark)?;
        if mark.starts_with(b"\xff\xfe") || mark.starts_with(b"\xfe\xff") {
            limited.read_to_end(&mut mark)?;
            return Ok(buffered(Cursor::new(files::decode(&mark)?)));
        }
        if mark == b"\xef\xbb\xbf" {
            mark.clear();
        }
        Ok(buffered(Cursor::new(mark).chain(Limited(limited))))
    }
}

fn buffered(reader: impl Read + 'static) -> BufReader<Box<dyn Read>> {
    BufReader::with_capacity(CHUNK, Box::new(reader))
}

/// A reader that fails at its limit instead of ending there.
struct Limited<R>(io::Take<R>);

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        if self.0.limit() == 0 {
            return Err(too_large());
        }
        Ok(read)
    }
}

fn too_large() -> io::Error {
    let message = format!("it is larger than {} MiB", MAX_FILE >> 20);
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}

/// Reports whether a saved page refers to more pages, in the spelling of the APIs or of their clients: `nextLink`,
/// `$skipToken`, `skip_token`, or `resultTruncated`, which is a string.
fn is_partial(rest: &Map<String, Value>) -> bool {
    rest.iter().any(|(name, value)| {
        let name = name.replace(['$', '_'], "").to_ascii_lowercase();
        match name.as_str() {
            "nextlink" | "skiptoken" => value.as_str().is_some_and(|text| !text.is_empty()),
            "resulttruncated" => {
                let text = value.as_str().unwrap_or_default();
                text.eq_ignore_ascii_case("true") || value.as_bool() == Some(true)
            }
            _ => false,
        }
    })
}
