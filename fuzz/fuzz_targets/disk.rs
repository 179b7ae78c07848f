//! What a disk begins with: partition tables and signatures; and the firmware's SMBIOS table.
#![cfg_attr(fuzzing, no_main)]

bty_fuzz::target!(bty::fuzzing::disk);
