//! What people, servers and kernels write: catalogs, references, selectors, sizes, checksum files, processors.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bty::fuzzing::text(data));
