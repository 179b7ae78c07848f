//! Every decoder, chosen by the first bytes as in the field.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bty::fuzzing::decode(data));
