//! Images of every kind: opened, mapped, and read to the end.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bty::fuzzing::image(data));
