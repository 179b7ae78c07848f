//! The commands, one file each.

pub(crate) mod deploy;
pub(crate) mod init;
pub(crate) mod purge;
pub(crate) mod show_config;
pub(crate) mod upgrade;
