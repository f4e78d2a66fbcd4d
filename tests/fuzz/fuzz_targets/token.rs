#![no_main]

#[allow(dead_code, reason = "this target is one of the functions")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::token(data));
