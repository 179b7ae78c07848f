//! Generates the compose file.

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

/// The compose file. It has all services; `COMPOSE_PROFILES` selects those that compose starts.
pub(crate) fn compose(settings: &Settings, version: &str) -> String {
    let services = services::all(settings, version);
    let rootless = !crate::process::is_root();
    // rendering to a string cannot fail
    Compose { version, services, rootless, uid: UID }.render().unwrap_or_default()
}
