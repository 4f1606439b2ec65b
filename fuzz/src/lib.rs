//! Property functions of the fuzz targets: one file a target, each a plain function over bytes that panics when a
//! property is broken.
//!
//! libFuzzer drives them through `fuzz_targets/` (feature `libfuzzer`); `tests/replay.rs` drives them on stable over
//! `corpus/TARGET/`. The feature `planted` plants one bug in each, so that `run.sh` can show that each target finds
//! one.
#![forbid(unsafe_code)]

pub mod connect_authority;
pub mod message;
pub mod stream_framer;
pub mod uri;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target: the name of its file, of its binary and of its corpus folder.
pub const TARGETS: &[Target] = &[
    ("connect_authority", connect_authority::connect_authority),
    ("message", message::message),
    ("stream_framer", stream_framer::stream_framer),
    ("uri", uri::uri),
];
