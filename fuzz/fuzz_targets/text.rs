//! What people, servers and kernels write: catalogs, references, selectors, sizes, checksum files,
//! processors.
#![cfg_attr(fuzzing, no_main)]

bty_fuzz::target!(bty::fuzzing::text);
