//! Reports of delta flashes and of packed forms, and the memory of proven disks.

use super::*;
use crate::domain::image_route::{CacheStatus, ImageRoute, PackedImage};
use crate::domain::machine::order::route_image;

const INDEX: &str = "1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6";

/// A disk as a delta flash reports it.
fn delta_disk(proof: &str) -> FlashedDisk {
    let delta = json!({
        "kept_bytes": 3_328_599_654_u64, "moved_bytes": 209_715_200, "fetched_bytes": 100_663_296,
        "source_bytes": 1, "stash_peak_bytes": 0,
    });
    FlashedDisk {
        proof: Some(proof.into()),
        written_bytes: Some(310_378_496),
        delta: serde_json::from_value(delta).unwrap(),
        ..disk("S1")
    }
}

impl World {
    fn boot_and_report(&mut self, nonce: &str, status: &str, disks: Vec<FlashedDisk>) -> Order {
        let token = live(&self.boot(nonce));
        let order = self.order(Some(&token));
        let report = Report { status: status.into(), disks, ..Report::default() };
        self.with(|m, context, client| apply_report(m, context, client, Some(&token), &report));
        order
    }
}

#[test]
fn a_delta_flash_is_told_in_plain_words() {
    let mut world = World::bound("bty-flash-once");
    world.boot_and_report("1", "done", vec![delta_disk("full")]);
    insta::assert_snapshot!(world.events[0].summary, @"52:54:00:12:34:56: flashed debian onto S1 (kept 3.1 GiB, moved 200.0 MiB, fetched 96.0 MiB, wrote 296.0 MiB; proof: full)");
    assert_eq!(world.events[0].details["disks"][0]["delta"]["moved_bytes"], 209_715_200);
    let flashed = world.machine.flashed.clone().unwrap();
    assert_eq!(flashed.proof.as_deref(), Some("full"));
    let whole = FlashedDisk { delta: None, ..delta_disk("none<script>alert(1)</script>") };
    world.save(&assignment("bty-flash-once"));
    world.boot_and_report("2", "done", vec![whole]);
    insta::assert_snapshot!(world.events[0].summary, @"52:54:00:12:34:56: flashed debian onto S1 (wrote 296.0 MiB; proof: nonescriptalert1scri)");
    // an earlier live environment tells neither
    world.save(&assignment("bty-flash-once"));
    world.boot_and_report("3", "done", vec![disk("S1")]);
    assert_eq!(world.events[0].summary, "52:54:00:12:34:56: flashed debian onto S1");
    assert_eq!(world.machine.flashed.as_ref().unwrap().summary(), None);
}

#[test]
fn the_index_of_the_packed_form_proves_the_image() {
    for (index, is_flashed) in
        [(Some(INDEX), true), (Some(&*"cd".repeat(32)), false), (None, false)]
    {
        let mut world = World::bound("bty-flash-once");
        let token = live(&world.boot("1"));
        let mut order = world.order(Some(&token));
        let url = "http://srv:3000/packed/ab/debian.img.zst".to_owned();
        let route = ImageRoute {
            src: SRC.into(),
            url: Some("http://srv:3000/b/abc/debian.img".into()),
            packed: Some(PackedImage { url: url.clone(), index_sha256: INDEX.into() }),
            status: CacheStatus::Hit,
        };
        route_image(&mut world.machine, &mut order, &mut world.events, &route);
        assert_eq!(order.value["image"]["packed"], url);
        assert_eq!(order.value["image"]["index_sha256"], INDEX);
        assert_eq!(world.events[0].details["withcache"]["packed"], url);
        let disk = FlashedDisk {
            sha256: Some("ef".repeat(32).parse().unwrap()),
            index_sha256: index.map(|index| index.parse().unwrap()),
            ..disk("S1")
        };
        let report = Report::done(vec![disk]);
        world.with(|m, context, client| apply_report(m, context, client, Some(&token), &report));
        let expected = if is_flashed { "machine.flashed" } else { "machine.flash_failed" };
        assert_eq!(world.kinds(), [expected], "{index:?}");
        let sha256 = world.machine.flashed.and_then(|flashed| flashed.sha256);
        assert_eq!(sha256, is_flashed.then(|| "ab".repeat(32)), "of the image as published");
    }
}

#[test]
fn a_proven_disk_is_named_only_if_the_operator_allows_a_shorter_proof() {
    let mut world = World::bound("bty-flash-always");
    world.save(&assignment("bty-flash-once"));
    let mut next = 0;
    let mut flash = |world: &mut World, status: &str, proof: &str| {
        next += 1;
        world.save(&assignment("bty-flash-once"));
        let order = world.boot_and_report(&next.to_string(), status, vec![delta_disk(proof)]);
        order.value["image"]["proven_disk"] == true
    };
    assert!(!flash(&mut world, "done", "full"));
    assert!(!flash(&mut world, "done", "full"), "off by default");
    world.allows_sample_proof = true;
    assert!(flash(&mut world, "done", "sample"));
    assert!(flash(&mut world, "failed", "none"), "the full proof is remembered");
    assert!(!flash(&mut world, "done", "sample"), "until a flash fails");
    assert!(!flash(&mut world, "done", "full"), "a sample does not prove the disk");
    assert!(flash(&mut world, "done", "full"));
}

#[test]
fn a_plan_passes_its_delta_mode_on() {
    let mut world = World::bound("bty-flash-once");
    let token = live(&world.boot("1"));
    assert_eq!(world.order(Some(&token)).value["image"]["delta"], "auto");
    let mut never = assignment("bty-flash-once");
    never.params.insert("delta".into(), "never".into());
    world.save(&never);
    let token = live(&world.boot("2"));
    assert_eq!(world.order(Some(&token)).value["image"]["delta"], "never");
}
