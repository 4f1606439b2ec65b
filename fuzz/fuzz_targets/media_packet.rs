//! libFuzzer drives [`farend_fuzz::media_packet`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farend_fuzz::media_packet::media_packet(data));
