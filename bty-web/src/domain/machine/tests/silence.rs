//! Machines that fall silent in the middle of a boot, and inventories that cannot be read.

use super::super::report::reject_inventory;
use super::super::silence::{SilenceLimit, apply_silence};
use super::*;

const MINUTE_MS: i64 = 60_000;

impl World {
    /// Looks for a stalled machine after these minutes of silence, with the default limit.
    fn look_after(&mut self, minutes: i64) -> bool {
        let heard_at = self.machine.cycle.as_ref().unwrap().heard_at;
        self.client.now = heard_at.plus_ms(minutes * MINUTE_MS);
        let limit = SilenceLimit { now: self.client.now, after_ms: 15 * MINUTE_MS };
        self.with(|machine, _, _| apply_silence(machine, &limit));
        !self.events.is_empty()
    }

    fn report_phase(&mut self, token: &str, phase: &str) {
        let progress = bty_script::plan::Progress { phase: phase.into(), ..Default::default() };
        let report = Report::progress(progress);
        let receipt = self.with(|m, c, client| apply_report(m, c, client, Some(token), &report));
        assert_eq!(receipt, Receipt::Accepted);
    }

    fn post_nonsense(&mut self, token: &str) {
        self.with(|m, c, client| reject_inventory(m, c, client, Some(token), "it is no JSON"));
    }
}

#[test]
fn a_machine_that_falls_silent_is_stalled_once_and_its_late_report_counts() {
    let mut world = World::bound("bty-flash-once");
    let token = live(&world.boot("1"));
    world.order(Some(&token));
    world.report_phase(&token, "write");
    assert!(!world.look_after(14));
    assert!(world.machine.boot_state().starts_with("live env running"));
    assert!(world.look_after(15));
    assert_eq!(world.kinds(), ["machine.stalled"]);
    assert_eq!(world.machine.status().phase(), Phase::Trouble);
    assert_eq!(world.machine.boot_state(), "stalled: the live env is silent; awaiting flash");
    assert!(!world.look_after(90), "it is told once");
    world.report_phase(&token, "write");
    assert_eq!(world.machine.status().phase(), Phase::Working, "it was only slow");
    assert!(world.look_after(15), "and is silent again");
    assert_eq!(world.report(Some(&token), "done"), Receipt::Accepted);
    assert_eq!(world.machine.boot_state(), "flashed; booting disk");
    assert!(!world.look_after(9999), "a closed cycle never stalls");
}

#[test]
fn a_stalled_machine_that_boots_again_tries_again() {
    let mut world = World::bound("bty-flash-once");
    let token = live(&world.boot("1"));
    world.order(Some(&token));
    assert!(world.look_after(15));
    let token = live(&world.boot("2"));
    assert_eq!(world.order(Some(&token)).mode, Mode::Flash);
    assert_eq!(world.machine.status().phase(), Phase::Working);
}

#[test]
fn phases_that_are_known_to_be_silent_get_longer() {
    for (phase, minutes) in [("wipe", 60), ("write", 15), ("verify", 15), ("finish", 60)] {
        let mut world = World::bound("bty-flash-once");
        let token = live(&world.boot("1"));
        world.order(Some(&token));
        world.report_phase(&token, phase);
        assert!(!world.look_after(minutes - 1), "{phase}");
        assert!(world.look_after(minutes), "{phase}");
    }
    let mut world = World::bound("bty-tui");
    let token = live(&world.boot("1"));
    assert_eq!(world.order(Some(&token)).mode, Mode::Interactive);
    assert!(!world.look_after(23 * 60), "a person may think");
    assert!(world.look_after(24 * 60));
}

#[test]
fn an_unreadable_inventory_keeps_no_machine_from_its_disk() {
    for is_posted_first in [true, false] {
        let mut world = World::bound("bty-inventory");
        let token = live(&world.boot("1"));
        if is_posted_first {
            world.post_nonsense(&token);
            assert_eq!(world.kinds(), ["machine.inventory_failed"]);
        }
        assert_eq!(world.order(Some(&token)).mode, Mode::Inventory);
        if !is_posted_first {
            world.post_nonsense(&token);
        }
        assert_eq!(world.machine.boot_state(), "inventory failed");
        assert_eq!(world.order(Some(&token)).mode, Mode::Inventory, "it reboots");
        assert!(is_disk(&world.boot("2")));
    }
}

#[test]
fn three_unreadable_inventories_stall_a_machine_whatever_its_plan_does() {
    let source = "fn boot(m) { boot_live() }\nfn plan(m) { #{ mode: \"inventory\" } }";
    let mut world = World::scripted(source);
    for nonce in ["1", "2", "3"] {
        let token = live(&world.boot(nonce));
        world.order(Some(&token));
        world.post_nonsense(&token);
    }
    assert!(matches!(world.boot("4"), Boot::Failed { .. }));
    assert_eq!(world.machine.status().phase(), Phase::Trouble);
}
