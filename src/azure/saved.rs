//! Alerts that were saved: a file or standard input in any shape in which people save them, as one JSON value or as
//! lines of it. Read item by item, so that a file of a hundred thousand alerts costs the memory of one.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Deserializer, Map, Value};

use super::source::Answer;
use super::{Cause, Explained, Result, page};
use crate::files;
use crate::verify::{FiredAlert, Item};

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 256 << 20;

/// A command that saves alerts in a form that is read. The portal's CSV lacks what they are about.
pub const HOW_TO_SAVE: &str = "save them as JSON, not CSV: az rest --url \
                               \"/subscriptions/ID/providers/Microsoft.Security/alerts?api-version=2022-01-01\" > alerts.json";

/// Bytes that are read at once.
const CHUNK: usize = 1 << 16;

/// Where saved alerts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// In a file, which may be a pipe.
    File(PathBuf),
    /// On standard input.
    Stdin,
}

/// `-` is standard input.
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
    /// When a plain file was last changed; `None` for what is read as it comes, and can be read only once.
    pub fn changed(&self) -> Option<Timestamp> {
        let Self::File(path) = self else {
            return None;
        };
        let file = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        Timestamp::try_from(file.modified().ok()?).ok()
    }

    /// Whether it is a plain file, or one that is not there: what can be read more than once.
    pub fn is_plain(&self) -> bool {
        match self {
            Self::File(path) => std::fs::metadata(path).map_or(true, |file| file.is_file()),
            Self::Stdin => false,
        }
    }

    /// Hands over every alert. Items that are something else are counted.
    ///
    /// # Errors
    /// If it does not exist, is too large, is not JSON, or holds the answer to a failed request.
    pub fn read(&self, mut each: impl FnMut(FiredAlert)) -> Result<Answer> {
        let refuse = |message: String| {
            Explained::new(Cause::Unreadable, message)
                .hint(HOW_TO_SAVE)
                .doing(format!("read the alerts in {self}"))
        };
        let reader = self.open().map_err(|error| refuse(error.to_string()))?;
        let mut answer = Answer::default();
        let mut item = |Item(value): Item| answer.take(&value, &mut each);
        let mut from = Deserializer::from_reader(reader);
        let mut whole = true;
        loop {
            let page = page::read(&mut from, &mut item).map_err(|error| refuse(page::place(&error)))?;
            if page.listed {
                whole = !goes_on(&page.rest);
            } else if page.rest.contains_key("error") {
                return Err(refuse("it holds the answer to a request that failed".to_owned()));
            } else if !page.rest.is_empty() {
                item(Item(Value::Object(page.rest)));
            }
            // Lines of JSON: another value follows.
            if from.end().is_ok() {
                break;
            }
        }
        answer.whole = whole;
        Ok(answer)
    }

    /// Its content as UTF-8, without a byte-order mark.
    fn open(&self) -> io::Result<Box<dyn Read>> {
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
            return Ok(Box::new(Cursor::new(files::decode(&mark)?)));
        }
        if mark == b"\xef\xbb\xbf" {
            mark.clear();
        }
        let rest = Limited(limited);
        Ok(Box::new(BufReader::with_capacity(
            CHUNK,
            Cursor::new(mark).chain(rest),
        )))
    }
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

/// Whether a saved page says that others follow it, as the APIs write that, and as programs that ask them do:
/// `nextLink`, `$skipToken`, `skip_token`, and `resultTruncated`, whose value is a text.
fn goes_on(rest: &Map<String, Value>) -> bool {
    rest.iter().any(|(name, value)| {
        let name = name.replace(['$', '_'], "").to_ascii_lowercase();
        match name.as_str() {
            "nextlink" | "skiptoken" => value.as_str().is_some_and(|text| !text.is_empty()),
            "resulttruncated" => {
                let said = value.as_str().unwrap_or_default();
                said.eq_ignore_ascii_case("true") || value.as_bool() == Some(true)
            }
            _ => false,
        }
    })
}
