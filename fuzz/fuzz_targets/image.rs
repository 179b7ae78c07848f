//! Images of every kind: opened, mapped, and read to the end.
#![cfg_attr(fuzzing, no_main)]

bty_fuzz::target!(bty::fuzzing::image);
