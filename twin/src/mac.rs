//! Hardware addresses: what tells one phone from another.

use std::fmt;
use std::str::FromStr;

/// A phone's hardware address; written as twelve upper-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// The text is not a hardware address.
#[derive(Debug, thiserror::Error)]
#[error("a hardware address is twelve hexadecimal digits, with or without ':' or '-'")]
pub struct NotAMac;

impl Mac {
    /// The MAC in an instance like `urn:uuid:00000000-0000-1000-8000-08000FD4CB01`, however it is quoted.
    pub fn from_instance(instance: &str) -> Option<Self> {
        let end = instance.rfind("-8000-")? + "-8000-".len();
        instance.get(end..end + 12)?.parse().ok()
    }

    /// The instance URN of a desk phone with this address.
    pub fn instance(&self) -> String {
        format!("urn:uuid:00000000-0000-1000-8000-{self}")
    }
}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-')).collect();
        if digits.len() != 12 {
            return Err(NotAMac);
        }
        let bytes = data_encoding::HEXUPPER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| NotAMac)?;
        Ok(Self(bytes.try_into().map_err(|_| NotAMac)?))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling_and_the_instance() {
        let mac = Mac([0x08, 0x00, 0x0F, 0xD4, 0xCB, 0xBF]);
        for text in ["08000FD4CBBF", "08-00-0F-D4-CB-BF", "08:00:0f:d4:cb:bf"] {
            assert_eq!(text.parse::<Mac>().ok(), Some(mac));
        }
        for text in ["", "08000FD4CBB", "08000FD4CBBG", "08000FD4CBBF0", "é8000FD4CBBF"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
        assert_eq!(mac.to_string(), "08000FD4CBBF");
        assert_eq!(Mac::from_instance(&format!("\"<{}>\"", mac.instance())), Some(mac));
        assert_eq!(Mac::from_instance("urn:uuid:00000000-0000-1000-8000-08000F"), None);
    }
}
