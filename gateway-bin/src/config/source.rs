//! Reads files that an operator names: regular ones, and no more of them than makes sense. A pipe would hold up a running
//! gateway that reloads, a device would fill its memory.

use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// The most that a configuration may have.
pub(super) const CONFIGURATION: u64 = 1 << 20;
/// The most that a file of certificates or keys may have: a bundle of every public root is a tenth of it.
pub(super) const CERTIFICATES: u64 = 4 << 20;

/// The whole file.
///
/// # Errors
/// It can't be read, is no regular file, or has more than `most` octets.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    // Before it is opened: opening a pipe waits for who writes to it.
    let kind = std::fs::metadata(path)?;
    if kind.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(Error::other("it is not a regular file"));
    }
    let mut contents = Vec::new();
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > most {
        return Err(Error::other(format!("it has more than {most} octets")));
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_a_sensible_size() {
        let folder = std::env::temp_dir().join(format!("farend-source-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let refused = |path: &Path| read(path, 4).unwrap_err().to_string();
        let file = folder.join("file");
        std::fs::write(&file, "four").unwrap();
        assert_eq!(read(&file, 4).unwrap(), b"four");
        std::fs::write(&file, "fives").unwrap();
        assert_eq!(refused(&file), "it has more than 4 octets");
        assert_eq!(refused(Path::new("/dev/zero")), "it is not a regular file");
        assert_eq!(refused(&folder), "is a directory");
        let socket = folder.join("socket");
        let _held = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(refused(&socket), "it is not a regular file");
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read(&file, 4).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
