//! Every decoder, chosen by the first bytes as in production.
#![cfg_attr(fuzzing, no_main)]

bty_fuzz::target!(bty::fuzzing::decode);
