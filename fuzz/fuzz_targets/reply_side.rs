#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::reply_side::check(data));
