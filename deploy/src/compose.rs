//! The services as a compose file.

use askama::Template;

use crate::services::{self, Service, UID};
use crate::settings::Settings;

#[derive(Template)]
#[template(path = "compose.yml", escape = "none")]
struct Compose<'a> {
    version: &'a str,
    services: Vec<Service>,
    rootless: bool,
    uid: u32,
}

/// All services; profiles say which of them are started.
pub(crate) fn compose(settings: &Settings, version: &str) -> String {
    let services = services::all(settings, version);
    let rootless = !crate::podman::is_root();
    // a template has no way to fail but by formatting
    Compose { version, services, rootless, uid: UID }.render().unwrap_or_default()
}
