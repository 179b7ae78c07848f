//! The commands, one file each.

use crate::output;
use crate::site::Site;
use crate::site_files::Password;

pub(crate) mod deploy;
pub(crate) mod init;
pub(crate) mod purge;
pub(crate) mod show_config;
pub(crate) mod upgrade;

/// Prints a password that was just generated.
fn print_password(password: Option<Password>) {
    if let Some(Password(text)) = password {
        output::labeled("password", format_args!("{text}    (for the pages; shown only once)"));
    }
}

fn warn_about_loopback(site: &Site) {
    if site.settings.host_addr.is_loopback() {
        output::warn(format_args!(
            "HOST_ADDR is {}, which only this host can reach; set another one with --host-addr",
            site.settings.host_addr
        ));
    }
}
