//! Packed images: the index, the tables at the end of the file, and frames.
#![cfg_attr(fuzzing, no_main)]

bty_fuzz::target!(bty::fuzzing::pack);
