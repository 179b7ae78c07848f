//! What a flashed disk and the firmware say about booting.
#![cfg_attr(fuzzing, no_main)]

bty_fuzz::target!(bty::fuzzing::boot);
