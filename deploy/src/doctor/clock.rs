//! A clock that is wrong makes certificates invalid, and events wrong.

use std::time::SystemTime;

use super::Finding;
use crate::podman;
use crate::site::Site;

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let newest = [site.dest.join("site.json"), site.settings.data_dir.join("bty/state.db")];
    let newest = newest.iter().filter_map(|file| file.metadata().ok()?.modified().ok()).max();
    if newest.is_some_and(|time| time > SystemTime::now()) {
        let text = "the clock is behind the last change of the site";
        return vec![Finding::wrong(
            "clock",
            text,
            "set it: timedatectl set-time, or a time server",
        )];
    }
    match podman::run("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).as_deref()
    {
        Ok("yes") => vec![Finding::ok("clock", "kept by a time server")],
        Ok("no") => vec![Finding::note(
            "clock",
            format!(
                "no time server keeps it; it says {}",
                jiff::Timestamp::now().strftime("%F %T UTC")
            ),
        )],
        _ => vec![Finding::note(
            "clock",
            format!("it says {}", jiff::Timestamp::now().strftime("%F %T UTC")),
        )],
    }
}
