//! libFuzzer drives [`farend_fuzz::srtp_packet`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farend_fuzz::srtp_packet::srtp_packet(data));
