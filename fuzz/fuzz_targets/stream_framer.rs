//! libFuzzer drives [`farend_fuzz::stream_framer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farend_fuzz::stream_framer::stream_framer(data));
