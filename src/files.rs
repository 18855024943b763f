//! Bounded reading of the files that a user names: any of them may be a pipe, a device or far too large.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Limit of a file, in bytes. No kubeconfig, scenario or record comes close.
pub const LIMIT: u64 = 16 << 20;

/// Reads a file to its end.
///
/// # Errors
/// If it cannot be read, or is larger than [`LIMIT`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(LIMIT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LIMIT {
        let message = format!("it is larger than {} MiB", LIMIT >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(content)
}

/// Reads a text file to its end.
///
/// # Errors
/// Those of [`read`], and text that is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn device_without_an_end_is_an_error() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 16 MiB");
    }
}
