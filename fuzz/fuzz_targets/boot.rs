//! Boot loader entries of a disk, and UEFI variables.
#![cfg_attr(fuzzing, no_main)]

bty_fuzz::target!(bty::fuzzing::boot);
