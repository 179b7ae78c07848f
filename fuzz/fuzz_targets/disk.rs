//! What a disk begins with: partition tables and signatures.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bty::fuzzing::disk(data));
