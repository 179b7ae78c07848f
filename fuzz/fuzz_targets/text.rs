//! What people and servers write: catalogs, references, selectors, sizes, checksum files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bty::fuzzing::text(data));
