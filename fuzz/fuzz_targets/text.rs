//! Text of people, servers and kernels: catalogs, references, selectors, sizes, checksum files,
//! `/proc/cpuinfo`.
#![cfg_attr(fuzzing, no_main)]

bty_fuzz::target!(bty::fuzzing::text);
