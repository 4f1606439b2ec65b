//! libFuzzer drives [`farend_fuzz::wire`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farend_fuzz::wire::wire(data));
