//! The size that compressed data claims to decode to.
#![cfg_attr(fuzzing, no_main)]

bty_fuzz::target!(bty::fuzzing::sizes);
