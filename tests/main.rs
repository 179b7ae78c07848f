//! Tests of whole programs, and of the library with real peers, in one binary: a directory per
//! topic.

#![allow(clippy::unwrap_used)]

/// The library: writing to disks, in memory and real ones.
mod flash {
    mod devices;
    mod examples;
    mod memory;
}

/// The library: formats, archives, and files that are not disk images.
mod images {
    mod archives;
    mod create;
    mod formats;
    mod pack;
    mod wrong_files;
}

/// The library: web servers and registries as sources of images.
pub(crate) mod sources {
    pub(crate) mod http;
    pub(crate) mod oci;
    mod packed;
}

/// The `bty` command, as people and programs use it.
mod command {
    mod cli;
    mod escapes;
    mod recordings;
    mod repl;
    mod wizard;
}

/// Scripts, run by an operator or by a machine on behalf of its server.
mod scripts {
    mod command;
    mod reference;
    mod target;
}

/// `bty-web` over HTTP and TFTP, its pages, and its deployment files.
mod web {
    mod access;
    mod bulk;
    mod bytes;
    mod cache;
    mod catalog;
    mod chain;
    mod command;
    mod deploy;
    mod events;
    mod fleet;
    mod full;
    mod growing;
    mod hostile;
    mod identity;
    mod machines;
    mod monitoring;
    mod package;
    mod pages;
    mod peer;
    mod plans;
    mod power;
    mod pxe;
    mod site;
    mod start;
    mod state;
    mod strangers;
    mod subpath;
    mod tftp;
    mod upgrade;
    mod users;
    mod webhooks;
}

/// A site: container images, and how `bty-lab` deploys them with podman.
mod lab {
    mod doctor;
    mod fake;
    pub(crate) mod images;
    pub(crate) mod site;
}

/// Machines from power-on to the flashed system: one path per firmware, one per way to deliver the
/// live environment, and faults that need a real boot.
///
/// `make test-chain` runs them. The other combinations are in `matrix`.
mod chain {
    mod delta;
    mod erase;
    pub(crate) mod faults;
    pub(crate) mod lab;
    pub(crate) mod network;
    pub(crate) mod sticks;
}

/// The rest of the matrix: published artifacts, arm64, and combinations that differ from those of
/// `chain` and `lab` in one aspect.
///
/// `make test-all` runs them, before a release; `make test-arm64` runs those of arm64 alone.
mod matrix {
    mod arm64;
    mod containers;
    mod firmware;
    mod full;
    mod media;
    mod network;
    mod sticks;
}

/// The documentation: what it names exists.
mod documentation {
    mod named_tests;
}

/// The tutorials of the documentation, executed as written.
mod tutorials;

mod dependencies {
    mod advisories;
}
