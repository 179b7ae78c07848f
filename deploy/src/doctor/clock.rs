//! Checks the clock: with a wrong one, certificates are invalid and events have wrong times.

use std::time::SystemTime;

use super::Finding;
use crate::process;
use crate::site::Site;

pub(super) fn check(site: &Site) -> Vec<Finding> {
    let newest = [site.dest.join("site.json"), site.settings.data_dir.join("bty/state.db")];
    let newest = newest.iter().filter_map(|file| file.metadata().ok()?.modified().ok()).max();
    if newest.is_some_and(|time| time > SystemTime::now()) {
        let text = "the clock is earlier than the last change of the site";
        return vec![Finding::error(
            "clock",
            text,
            "set it with timedatectl set-time, or use a time server",
        )];
    }
    match process::run("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).as_deref()
    {
        Ok("yes") => vec![Finding::ok("clock", "synchronized with a time server")],
        Ok("no") => vec![Finding::note(
            "clock",
            format!(
                "not synchronized with a time server; the time is {}",
                jiff::Timestamp::now().strftime("%F %T UTC")
            ),
        )],
        _ => vec![Finding::note(
            "clock",
            format!("the time is {}", jiff::Timestamp::now().strftime("%F %T UTC")),
        )],
    }
}
