//! The socket between signalling and the relay: octets that hold no promise of being ours. Nothing panics; how they were cut
//! changes nothing; what was read is written and read as the same; a frame is refused by its length before it is waited for,
//! so that less than one frame is ever held.
//!
//! The first octet chooses the reader and how the rest is cut.

use sdp_core::relay::wire::{
    Decoder, FromRelay, MAX_FRAME, PREAMBLE, Received, ToRelay, WireError, encode, preamble, read_preamble,
};

/// What the bounds of this target ask of a message.
trait Message: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug {}
impl<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug> Message for T {}

/// Reads `data`.
pub fn wire(data: &[u8]) {
    let Some((choice, octets)) = data.split_first() else { return };
    if let Some(first) = octets.first_chunk::<PREAMBLE>() {
        assert_eq!(read_preamble(*first).is_ok(), *first == preamble());
    }
    let piece = usize::from(choice >> 1) + 1;
    if choice & 1 == 0 { both::<ToRelay>(octets, piece) } else { both::<FromRelay>(octets, piece) }
}

fn both<T: Message>(octets: &[u8], piece: usize) {
    let (whole, end) = read::<T>(octets, octets.len().max(1));
    let (cut, cut_end) = read::<T>(octets, piece);
    assert_eq!((&whole, &end), (&cut, &cut_end), "cut to pieces of {piece}");
    // Five octets are the shortest frame with something in it.
    assert!(whole.len() <= octets.len() / 4);
    for message in &whole {
        let Received::Message(message) = message else { continue };
        // The planted bug: a command that ends another session than the first is lost.
        if cfg!(feature = "planted") {
            let text = format!("{message:?}");
            assert!(!text.contains("End { session: ") || text.contains("End { session: 0 }"), "lost");
        }
        let mut written = Vec::new();
        // A message from a frame may be longer as we write it: a name for each field.
        if encode(message, &mut written).is_ok() {
            let (again, end) = read::<T>(&written, written.len());
            assert_eq!(end, None);
            assert!(matches!(&again[..], [Received::Message(same)] if same == message), "{again:?}");
        }
    }
}

/// All messages, and why there are no more.
fn read<T: Message>(octets: &[u8], piece: usize) -> (Vec<Received<T>>, Option<WireError>) {
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    for piece in octets.chunks(piece) {
        decoder.handle_octets(piece);
        loop {
            match decoder.poll_message() {
                Ok(Some(message)) => out.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert!(matches!(error, WireError::TooLong { octets } if octets > MAX_FRAME), "{error}");
                    return (out, Some(error));
                }
            }
        }
    }
    (out, None)
}
