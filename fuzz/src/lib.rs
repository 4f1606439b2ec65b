//! Property functions of the fuzz targets: one file a target, each a plain function over bytes that panics when a
//! property is broken.
//!
//! libFuzzer drives them through `fuzz_targets/` (feature `libfuzzer`); `tests/replay.rs` drives them on stable over
//! `corpus/TARGET/`. The feature `planted` plants one bug in each, so that `run.sh` can show that each target finds
//! one.
//!
//! A new target is a file here and its line in [`TARGETS`], a five-line binary in `fuzz_targets/` with its `[[bin]]`,
//! and a folder of seeds under `corpus/`, all of one name; its planted bug must be one that mutation of the seeds can
//! reach.
#![forbid(unsafe_code)]

pub mod connect_authority;
pub mod media_packet;
pub mod message;
pub mod sdp_rewrite;
pub mod srtp_packet;
pub mod stream_framer;
pub mod uri;
pub mod wire;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target: the name of its file, of its binary and of its corpus folder.
pub const TARGETS: &[Target] = &[
    ("connect_authority", connect_authority::connect_authority),
    ("media_packet", media_packet::media_packet),
    ("message", message::message),
    ("sdp_rewrite", sdp_rewrite::sdp_rewrite),
    ("srtp_packet", srtp_packet::srtp_packet),
    ("stream_framer", stream_framer::stream_framer),
    ("uri", uri::uri),
    ("wire", wire::wire),
];
