//! The start of a disk: partition tables and signatures. Also the SMBIOS table of the firmware.
#![cfg_attr(fuzzing, no_main)]

bty_fuzz::target!(bty::fuzzing::disk);
