//! A stream: however it is split, the frames are the same; every message out of it parses by itself; memory stays
//! below the limit; after an error nothing comes any more.

use sip_core::message::frame::{Frame, Framer};
use sip_core::message::{Limits, Message};

/// The first byte of `data` seeds the splits, the rest is the stream.
pub fn stream_framer(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else { return };
    let limits = Limits { message: 4096, ..Limits::default() };
    let whole = frames(limits, std::iter::once(stream));
    assert_eq!(frames(limits, stream.chunks(1)), whole, "byte by byte");
    let split = usize::from(seed) + 2;
    assert_eq!(frames(limits, stream.chunks(split)), whole, "by {split}");
}

#[derive(PartialEq, Debug)]
enum Seen {
    Message(Vec<u8>),
    Ping,
    Pong,
    /// The status. Which bytes were there for the answer depends on the split.
    Failed(u16),
}

fn frames<'a>(limits: Limits, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut framer = Framer::stream(limits);
    let mut seen = Vec::new();
    #[cfg(feature = "planted")]
    let mut chunks_seen = 0;
    for chunk in chunks {
        #[cfg(feature = "planted")]
        {
            chunks_seen += 1;
        }
        framer.push(chunk);
        while let Some(frame) = framer.next() {
            seen.push(match frame {
                Ok(Frame::Message(message)) => {
                    let bytes = message.bytes().clone();
                    let alone =
                        Message::parse_framed(bytes.clone(), &limits).expect("a framed message parses");
                    assert_eq!(alone.bytes(), &bytes);
                    assert_eq!(alone.body(), message.body());
                    Seen::Message(bytes.to_vec())
                }
                Ok(Frame::Ping) => Seen::Ping,
                Ok(Frame::Pong) => Seen::Pong,
                Ok(other) => panic!("{other:?}"),
                Err(error) => Seen::Failed(error.status()),
            });
        }
        assert!(framer.pending() <= limits.message, "{} octets held", framer.pending());
    }
    // The planted bug: a stream that does not come in one piece loses a line end behind its last message.
    #[cfg(feature = "planted")]
    if chunks_seen > 1 && matches!(&seen[..], [.., Seen::Message(_), Seen::Pong]) {
        seen.pop();
    }
    if let Some(failure) = seen.iter().position(|seen| matches!(seen, Seen::Failed(_))) {
        assert_eq!(failure + 1, seen.len(), "nothing comes after an error");
        assert!(framer.is_failed());
    }
    seen
}
