//! libFuzzer drives [`farend_fuzz::connect_authority`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farend_fuzz::connect_authority::connect_authority(data));
