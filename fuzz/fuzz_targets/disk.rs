//! What a disk begins with: partition tables and signatures; and the firmware's SMBIOS table.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bty::fuzzing::disk(data));
