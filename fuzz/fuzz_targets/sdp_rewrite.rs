//! libFuzzer drives [`farend_fuzz::sdp_rewrite`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farend_fuzz::sdp_rewrite::sdp_rewrite(data));
