//! Responses of registries: manifests and challenges.
#![cfg_attr(fuzzing, no_main)]

bty_fuzz::target!(bty::fuzzing::registry);
