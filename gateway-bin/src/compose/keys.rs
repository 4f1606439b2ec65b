//! The keys of routing tokens: made once, kept in the state folder.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sip_core::token::{Key, Keyring};

use super::aside;

/// One newest key; rotation is not built yet.
const NEWEST: u8 = 1;

/// The key file can't be used. The gateway does not start then: with new keys, no token that the PBX holds
/// would be known any more (SIP-12).
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Its content is no key.
    #[error("{}: not a key of 32 bytes", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("{}: readable by others than its owner: expected mode 0600", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
}

/// The keys in `state_dir`, which are made at the first start.
pub(crate) fn load(state_dir: &Path) -> Result<Keyring, KeyError> {
    let path = state_dir.join("token.key");
    let io = |error| KeyError::Io { path: path.clone(), error };
    let secret = match File::open(&path) {
        Ok(file) => {
            if file.metadata().map_err(io)?.permissions().mode() & 0o077 != 0 {
                return Err(KeyError::Open { path });
            }
            let mut secret = Vec::new();
            file.take(64).read_to_end(&mut secret).map_err(io)?;
            <[u8; 32]>::try_from(secret).map_err(|_| KeyError::Damaged { path: path.clone() })?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = super::seed().map_err(io)?;
            aside::replace(&path, &secret).map_err(io)?;
            secret
        }
        Err(error) => return Err(io(error)),
    };
    Ok(Keyring::new(Key::new(NEWEST, secret), Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::{KeyError, load};

    #[test]
    fn keys_stay_the_same_and_a_damaged_file_is_no_reason_for_new_ones() {
        let folder = std::env::temp_dir().join(format!("farend-keys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let token = load(&folder).unwrap().contact_token("realm", "08000FD4CBBF");
        assert_eq!(load(&folder).unwrap().contact_token("realm", "08000FD4CBBF"), token);
        std::fs::write(folder.join("token.key"), "short").unwrap();
        assert!(matches!(load(&folder), Err(KeyError::Damaged { .. })));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
