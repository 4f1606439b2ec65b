//! libFuzzer drives [`farend_fuzz::uri`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farend_fuzz::uri::uri(data));
