//! libFuzzer drives [`farend_fuzz::message`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farend_fuzz::message::message(data));
