//! Bounded reading of user-supplied files: any of them may be a pipe, a device or far too large.
//!
//! Text is UTF-8, or UTF-16 with a byte order mark, which is what `>` writes in Windows PowerShell.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::untrusted;

/// Size limit of a file, in bytes. Kubeconfigs, scenarios and records are far smaller.
pub const LIMIT: u64 = 16 << 20;

/// Returns whether `path` is `-`, which stands for standard input. `./-` is a file.
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Formats the name of a file for messages: printable, on one line.
///
/// ```
/// # use defender_sim::files::shown;
/// # use std::path::Path;
/// assert_eq!(shown(Path::new("-")), "<stdin>");
/// assert_eq!(shown(Path::new("./-")), "./-");
/// ```
pub fn shown(path: &Path) -> String {
    if is_stdin(path) {
        return "<stdin>".to_owned();
    }
    untrusted::escaped(&path.to_string_lossy()).into_owned()
}

/// Reads a file to its end.
///
/// # Errors
/// Fails if the file cannot be read or is larger than [`LIMIT`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_bounded(File::open(path)?)
}

fn read_bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    source.take(LIMIT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LIMIT {
        let message = format!("it is larger than {} MiB", LIMIT >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(content)
}

/// Reads a text file, or standard input (see [`is_stdin`]), to its end.
///
/// # Errors
/// Returns the same errors as [`read`] and [`decode`].
pub fn read_text(path: &Path) -> io::Result<String> {
    let content = if is_stdin(path) {
        read_bounded(io::stdin().lock())
    } else {
        read(path)
    };
    decode(&content?)
}

/// Decodes a text file. A byte order mark, which is removed, selects UTF-16; the default is UTF-8.
///
/// # Errors
/// Fails if the bytes are not valid in that encoding.
pub fn decode(content: &[u8]) -> io::Result<String> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let (name, unit): (_, fn([u8; 2]) -> u16) = match content {
        [0xff, 0xfe, ..] => ("UTF-16LE", u16::from_le_bytes),
        [0xfe, 0xff, ..] => ("UTF-16BE", u16::from_be_bytes),
        _ => {
            let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
            let text =
                std::str::from_utf8(content).map_err(|_| invalid("it is not valid UTF-8".to_owned()))?;
            return Ok(text.to_owned());
        }
    };
    let pairs = content[2..].chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(invalid(format!("it is {name}, and its last character is torn")));
    }
    char::decode_utf16(pairs.map(|pair| unit([pair[0], pair[1]])))
        .collect::<Result<_, _>>()
        .map_err(|_| invalid(format!("it is not valid {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn device_without_an_end_is_an_error() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 16 MiB");
    }

    #[test]
    fn byte_order_mark_decides_the_encoding() {
        for (content, text) in [
            (&b"a\xc3\xa9"[..], "aé"),
            (b"\xef\xbb\xbfa", "a"),
            (b"\xff\xfea\0\xe9\0", "aé"),
            (b"\xfe\xff\0a\0\xe9", "aé"),
            (b"\xff\xfe\x3d\xd8\x00\xde", "😀"),
            // Only the first one is a byte order mark.
            (b"\xef\xbb\xbf\xef\xbb\xbfa", "\u{feff}a"),
            (b"", ""),
            (b"\xff\xfe", ""),
        ] {
            assert_eq!(decode(content).unwrap(), text, "{content:?}");
        }
        for (content, reason) in [
            (&b"a\xff"[..], "it is not valid UTF-8"),
            (b"\xef\xbb\xbf\xc3", "it is not valid UTF-8"),
            (b"\xff\xfea", "it is UTF-16LE, and its last character is torn"),
            (b"\xfe\xff\0a\0", "it is UTF-16BE, and its last character is torn"),
            (b"\xff\xfe\x3d\xd8", "it is not valid UTF-16LE"),
            (b"\xfe\xff\xde\x00\0a", "it is not valid UTF-16BE"),
        ] {
            assert_eq!(decode(content).unwrap_err().to_string(), reason, "{content:?}");
        }
    }
}
