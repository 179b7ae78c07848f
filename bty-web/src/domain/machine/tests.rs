//! Tests of the rules with the bundled plans: the reference's table of states, the cases that it
//! misses, and random sequences.

use std::collections::HashMap;

use bty_script::decide::Decider;
use bty_script::plan::{FlashedDisk, Report};
use bty_script::{Engine, Limits, ScriptContext};
use serde_json::{Value, json};

use super::contact::{Boot, Contact, decide_boot};
use super::order::{Mode, Order, decide_order};
use super::report::{PostedInventory, Receipt, apply_inventory, apply_report};
use super::save::{Binding, apply_binding};
use super::*;
use crate::domain::plan::evaluate::DecisionContext;
use crate::domain::plan::{Plan, bundled, examine};

const SRC: &str = "https://images.example/debian.img";
const OTHER: &str = "https://images.example/other.img";

fn image_ref(src: &str) -> String {
    bty::catalog::image_ref(src).unwrap().to_string()
}

/// A machine and its environment.
struct World {
    decider: Decider,
    catalog: String,
    resolved: HashMap<String, String>,
    names: HashMap<String, String>,
    plan: Option<Plan>,
    tokens: std::sync::atomic::AtomicU32,
    silent_boots_max: u32,
    client: ClientContext,
    machine: Machine,
    events: Vec<NewEvent>,
}

impl World {
    fn new(plan: &str) -> Self {
        let client = ClientContext {
            ip: Some("10.0.0.9".into()),
            now: Time(1_764_000_000_000),
            base: "http://srv:8080".into(),
        };
        let entry = |name: &str, src: &str| {
            format!(
                "[[images]]\nname = \"{name}\"\nsrc = \"{src}\"\nsha256 = \"{}\"\n",
                "ab".repeat(32)
            )
        };
        let mut world = Self {
            decider: Decider::new(Engine::new(ScriptContext::compute_only(), Limits::server())),
            catalog: format!("version = 1\n{}{}", entry("debian", SRC), entry("other", OTHER)),
            resolved: HashMap::new(),
            names: HashMap::from([(image_ref(SRC), "debian".into())]),
            plan: None,
            tokens: 0.into(),
            silent_boots_max: 3,
            machine: Machine::new("525400123456".parse().unwrap(), plan, client.now),
            client,
            events: Vec::new(),
        };
        world.use_plan(plan);
        world
    }

    fn use_plan(&mut self, name: &str) {
        self.plan = bundled::find(name).cloned();
    }

    fn scripted(source: &str) -> Self {
        let mut world = Self::new("own");
        let declared = examine("own", source).declared;
        world.plan = Some(Plan {
            name: "own".into(),
            source: source.into(),
            declared,
            ..bundled::all()[0].clone()
        });
        world
    }

    /// Creates a machine assigned to the image and a disk.
    fn bound(plan: &str) -> Self {
        let mut world = Self::new(plan);
        world.save(&binding(plan));
        world
    }

    fn with<T>(
        &mut self,
        act: impl FnOnce(&Machine, &DecisionContext<'_>, &ClientContext) -> Outcome<T>,
    ) -> T {
        let decide = |question: &bty_script::decide::PlanCall<'_>| self.decider.decide(question);
        let token =
            || format!("token-{}", self.tokens.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let context = DecisionContext {
            plan: self.plan.as_ref(),
            catalog: &self.catalog,
            resolved: &self.resolved,
            names: &self.names,
            evaluator: &decide,
            window_ms: 3000,
            silent_boots_max: self.silent_boots_max,
            zone: &jiff::tz::TimeZone::UTC,
            token: &token,
        };
        let outcome = act(&self.machine, &context, &self.client);
        self.machine = outcome.machine;
        self.events = outcome.events;
        self.client.now = self.client.now.plus_ms(1000);
        outcome.answer
    }

    fn boot(&mut self, nonce: &str) -> Boot {
        self.with(|m, context, client| {
            decide_boot(
                m,
                context,
                client,
                &Contact { nonce: Some(nonce.into()), is_tokenless: false },
            )
        })
    }

    /// A contact that boots the reference's live environment, which does not support tokens.
    fn boot_reference(&mut self, nonce: &str) -> Boot {
        self.with(|m, context, client| {
            decide_boot(
                m,
                context,
                client,
                &Contact { nonce: Some(nonce.into()), is_tokenless: true },
            )
        })
    }

    fn order(&mut self, token: Option<&str>) -> Order {
        self.with(|m, context, client| decide_order(m, context, client, token))
    }

    fn report(&mut self, token: Option<&str>, status: &str) -> Receipt {
        let disks = if status == "done" { vec![disk("S1")] } else { Vec::new() };
        let events = Report { status: status.into(), disks, ..Report::default() };
        self.with(|m, context, client| apply_report(m, context, client, token, &events))
    }

    fn inventory(&mut self, token: Option<&str>) {
        let posted = PostedInventory {
            disks: json!([{ "path": "/dev/sda", "serial": "S1", "size_bytes": 1 << 30 }]),
            lshw: None,
        };
        self.with(|m, context, client| apply_inventory(m, context, client, token, &posted));
    }

    fn save(&mut self, binding: &Binding) {
        self.use_plan(&binding.boot_mode);
        self.with(|m, context, client| apply_binding(Some(m), m.clone(), context, client, binding));
    }

    fn kinds(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.kind).collect()
    }

    /// A boot that flashes, from the contact to the acknowledged result.
    fn flash(&mut self, nonce: &str) {
        let token = live(&self.boot(nonce));
        assert_eq!(self.order(Some(&token)).mode, Mode::Flash);
        assert_eq!(self.report(Some(&token), "done"), Receipt::Accepted);
    }
}

fn binding(plan: &str) -> Binding {
    Binding {
        boot_mode: plan.into(),
        bty_image_ref: Some(image_ref(SRC)),
        target_disk_serial: Some("S1".into()),
        ..Binding::default()
    }
}

fn disk(serial: &str) -> FlashedDisk {
    FlashedDisk {
        path: "/dev/sda".into(),
        serial: Some(serial.into()),
        image: SRC.into(),
        sha256: None,
        disk_bytes: 1,
        verified_bytes: 1,
    }
}

fn live(boot: &Boot) -> String {
    match boot {
        Boot::Live { token, fallback: None, .. } => token.clone(),
        other => panic!("not the live environment: {other:?}"),
    }
}

fn is_disk(boot: &Boot) -> bool {
    matches!(boot, Boot::Disk { .. })
}

#[test]
fn flash_once_flashes_once_and_again_after_a_save_that_changes_nothing() {
    let mut world = World::bound("bty-flash-once");
    world.flash("1");
    for nonce in ["2", "3", "4"] {
        assert!(is_disk(&world.boot(nonce)), "{nonce}");
    }
    world.save(&binding("bty-flash-once"));
    world.flash("5");
    assert!(is_disk(&world.boot("6")));
}

#[test]
fn after_a_new_order_the_state_is_pending_again() {
    let mut world = World::bound("bty-flash-once");
    world.flash("a");
    assert_eq!(
        (world.machine.boot_state().as_str(), world.machine.status().phase()),
        ("flashed; booting disk", Phase::Done)
    );
    world.save(&binding("bty-flash-once"));
    assert_eq!(
        (world.machine.boot_state().as_str(), world.machine.status().phase()),
        ("pending flash", Phase::Pending)
    );
    // the server recognizes the repeated report
    let token = world.machine.cycle.as_ref().map(|cycle| cycle.token.clone());
    assert_eq!(world.report(token.as_deref(), "done"), Receipt::Repeated);
    let with_labels = Binding { labels: vec!["lab".into()], ..binding("bty-flash-once") };
    world.flash("b");
    world.save(&with_labels);
    assert_eq!(world.machine.boot_state(), "flashed; booting disk", "labels order nothing");
}

#[test]
fn a_change_of_labels_is_not_a_new_order() {
    let mut world = World::bound("bty-flash-once");
    world.flash("1");
    world.save(&Binding { labels: vec!["lab".into()], ..binding("bty-flash-once") });
    assert!(is_disk(&world.boot("2")));
    world.save(&Binding {
        bty_image_ref: Some(image_ref(OTHER)),
        labels: vec!["lab".into()],
        ..binding("bty-flash-once")
    });
    live(&world.boot("3"));
}

#[test]
fn spaces_around_the_serial_number_are_not_a_new_order() {
    let mut world = World::bound("bty-flash-once");
    world.flash("1");
    let bound = binding("bty-flash-once");
    let serial = bound.target_disk_serial.as_ref().map(|serial| format!(" {serial} "));
    assert!(serial.is_some());
    world.save(&Binding { labels: vec!["lab".into()], target_disk_serial: serial, ..bound });
    assert!(is_disk(&world.boot("2")));
}

#[test]
fn a_crash_never_counts_as_a_completion() {
    for plan in ["bty-flash-once", "bty-flash-always"] {
        let mut world = World::bound(plan);
        for round in 0..3 {
            for crash in 0..3 {
                let token = live(&world.boot(&format!("{round}-{crash}")));
                world.order(Some(&token));
            }
            let offered = &world.events;
            assert!(!offered.is_empty());
            let token = live(&world.boot(&format!("{round}-last")));
            assert_eq!(world.events[0].details["retry_after_armed_no_done"], true, "{plan}");
            assert_eq!(world.events[0].details["image_name"], "debian", "{plan}");
            world.order(Some(&token));
            world.report(Some(&token), "done");
            assert!(is_disk(&world.boot(&format!("{round}-disk"))), "{plan}");
            if plan == "bty-flash-once" {
                world.save(&binding(plan));
            }
        }
    }
}

#[test]
fn flash_always_and_inventory_alternate() {
    let mut world = World::bound("bty-flash-always");
    for round in 0..3 {
        world.flash(&format!("{round}a"));
        assert!(is_disk(&world.boot(&format!("{round}b"))));
    }
    let mut world = World::new("bty-inventory");
    for round in 0..3 {
        let token = live(&world.boot(&format!("{round}a")));
        world.inventory(Some(&token));
        assert_eq!(world.order(Some(&token)).mode, Mode::Inventory);
        assert_eq!(
            world.order(Some(&token)).mode,
            Mode::Inventory,
            "asked again, it is told again"
        );
        assert!(is_disk(&world.boot(&format!("{round}b"))));
    }
}

#[test]
fn a_repeated_contact_gets_the_same_answer_and_changes_nothing() {
    let mut world = World::bound("bty-flash-always");
    world.flash("1");
    let first = world.boot("2");
    let before = world.machine.clone();
    assert_eq!(world.boot("2"), first);
    assert_eq!(world.machine, before);
    assert_eq!(world.kinds(), Vec::<&str>::new());
    // a late contact of an earlier boot, too
    let token = live(&world.boot("3"));
    assert_eq!(world.boot("2"), first);
    assert_eq!(world.machine.open_cycle().unwrap().token, token);
}

#[test]
fn a_constant_nonce_does_not_block_a_machine() {
    let mut world = World::bound("bty-flash-always");
    world.flash("fixed");
    world.client.now = world.client.now.plus_ms(10 * 60 * 1000);
    assert!(is_disk(&world.boot("fixed")));
}

#[test]
fn contacts_without_a_nonce_repeat_within_a_short_window() {
    let mut world = World::bound("bty-flash-always");
    let direct = |world: &mut World, after_ms: i64, ip: &str| {
        world.client.now =
            world.machine.answers.last().map_or(world.client.now, |last| last.at.plus_ms(after_ms));
        world.client.ip = Some(ip.into());
        world.with(|m, context, client| decide_boot(m, context, client, &Contact::default()))
    };
    let first = direct(&mut world, 0, "10.0.0.9");
    assert_eq!(direct(&mut world, 2999, "10.0.0.9"), first);
    assert_ne!(direct(&mut world, 3000, "10.0.0.9"), first);
    let last = direct(&mut world, 5000, "10.0.0.9");
    assert_ne!(
        direct(&mut world, 1, "10.0.0.10"),
        last,
        "another machine, or another interface of it"
    );
}

#[test]
fn a_completion_counts_once_and_only_for_its_cycle() {
    let mut world = World::bound("bty-flash-once");
    let old = live(&world.boot("1"));
    world.order(Some(&old));
    let new = live(&world.boot("2"));
    assert!(matches!(world.report(Some(&old), "done"), Receipt::Refused(_)));
    assert_eq!(world.kinds(), ["pxe.client.refused"]);
    assert!(matches!(world.report(Some("made up"), "done"), Receipt::Refused(_)));
    assert!(
        matches!(world.report(None, "done"), Receipt::Refused(_)),
        "its live environment knows the token"
    );
    assert_eq!(world.machine.state, json!({}));
    world.order(Some(&new));
    assert_eq!(world.report(Some(&new), "done"), Receipt::Accepted);
    assert_eq!(world.report(Some(&new), "done"), Receipt::Repeated);
    assert_eq!(world.kinds(), Vec::<&str>::new(), "told once");
    assert!(matches!(world.report(Some(&new), "failed"), Receipt::Refused(_)), "it has been done");
}

#[test]
fn the_reference_client_is_identified_by_the_address_that_opened_the_cycle() {
    let mut world = World::bound("bty-flash-once");
    live(&world.boot_reference("1"));
    let order = world.order(None);
    assert_eq!(order.mode, Mode::Flash);
    world.client.ip = Some("10.0.0.66".into());
    assert!(matches!(world.report(None, "done"), Receipt::Refused(_)));
    assert_eq!(world.order(None).token, "", "the token is not for others");
    world.client.ip = Some("10.0.0.9".into());
    let events = Report { status: "done".into(), ..Report::default() };
    assert_eq!(
        world.with(|m, context, client| apply_report(m, context, client, None, &events)),
        Receipt::Accepted
    );
    assert_eq!(world.kinds(), ["machine.flashed"]);
}

#[test]
fn another_client_that_fetches_the_plan_cannot_end_the_cycle() {
    let mut world = World::bound("bty-flash-once");
    world.client.ip = Some("10.0.0.66".into());
    let order = world.order(None);
    let bare = Report { status: "done".into(), ..Report::default() };
    let done = |world: &mut World, token: Option<&str>| {
        world.with(|m, context, client| apply_report(m, context, client, token, &bare))
    };
    assert!(
        matches!(done(&mut world, None), Receipt::Refused(_)),
        "no contact has offered an environment without tokens"
    );
    assert!(matches!(world.report(None, "done"), Receipt::Refused(_)));
    assert_eq!(done(&mut world, Some(&order.token)), Receipt::Accepted);
    assert_eq!(world.kinds(), ["machine.flash_failed"], "nothing says which disk was written");
    assert_eq!(world.machine.flashed, None);
    live(&world.boot("1"));
}

#[test]
fn an_inventory_of_another_client_changes_nothing_while_a_cycle_is_open() {
    let mut world = World::bound("bty-flash-once");
    let token = live(&world.boot("1"));
    world.inventory(Some(&token));
    let disks = world.machine.disks.clone();
    let foreign = PostedInventory {
        disks: json!([{ "path": "/dev/sda", "serial": "EVIL", "size_bytes": 1 }]),
        lshw: None,
    };
    for (ip, token) in
        [("10.0.0.66", None), ("10.0.0.66", Some("made up")), ("10.0.0.9", Some("made up"))]
    {
        world.client.ip = Some(ip.into());
        world.with(|m, context, client| apply_inventory(m, context, client, token, &foreign));
        assert_eq!(world.machine.disks, disks, "{ip} {token:?}");
        assert_eq!(world.kinds(), ["machine.inventory"], "it is on record");
        assert_eq!(world.events[0].details["counts"], false);
    }
}

#[test]
fn a_save_during_a_flash_is_not_completed_by_that_flash() {
    let mut world = World::bound("bty-flash-once");
    let token = live(&world.boot("1"));
    world.order(Some(&token));
    world.save(&Binding { bty_image_ref: Some(image_ref(OTHER)), ..binding("bty-flash-once") });
    assert_eq!(
        world.report(Some(&token), "done"),
        Receipt::Accepted,
        "the machine must not report it for ever"
    );
    assert_eq!(world.events[0].details["is_overtaken"], true);
    assert_eq!(world.machine.flashed.as_ref().unwrap().image, Some(image_ref(SRC)));
    let token = live(&world.boot("2"));
    assert_eq!(world.order(Some(&token)).value["image"]["src"], OTHER);
}

#[test]
fn a_save_before_the_plan_is_fetched_takes_effect() {
    let mut world = World::bound("bty-flash-once");
    let token = live(&world.boot("1"));
    world.save(&binding("ipxe-exit"));
    assert_eq!(world.order(Some(&token)).mode, Mode::Exit, "nothing is written any more");
}

#[test]
fn an_earlier_boot_gets_no_orders() {
    let mut world = World::bound("bty-flash-once");
    let done = live(&world.boot("1"));
    world.order(Some(&done));
    world.report(Some(&done), "done");
    assert_eq!(world.order(Some(&done)).mode, Mode::Exit);
    world.save(&binding("bty-flash-once"));
    let failed = live(&world.boot("2"));
    world.order(Some(&failed));
    world.report(Some(&failed), "failed");
    assert_eq!(world.kinds(), ["machine.flash_failed"]);
    assert_eq!(world.order(Some(&failed)).mode, Mode::Interactive);
    live(&world.boot("3"));
    assert_eq!(world.order(Some(&failed)).mode, Mode::Interactive, "of the boot before");
}

#[test]
fn the_wrong_disk_or_image_is_not_a_completion() {
    for (serial, sha256) in [("S2", None), ("S1", Some("cd".repeat(32)))] {
        let mut world = World::bound("bty-flash-once");
        let token = live(&world.boot("1"));
        world.order(Some(&token));
        let proof = FlashedDisk { sha256: sha256.map(|sha| sha.parse().unwrap()), ..disk(serial) };
        let events = Report { status: "done".into(), disks: vec![proof], ..Report::default() };
        world.with(|m, context, client| apply_report(m, context, client, Some(&token), &events));
        assert_eq!(world.kinds(), ["machine.flash_failed"], "{serial}");
        live(&world.boot("2"));
    }
}

#[test]
fn an_incomplete_assignment_is_not_flashed_and_gives_the_reason() {
    let unbound = |change: fn(&mut Binding)| {
        let mut binding = binding("bty-flash-once");
        change(&mut binding);
        let mut world = World::new("bty-flash-once");
        world.save(&binding);
        let boot = world.boot("1");
        (boot, world.events[0].details["offer_kind"].clone())
    };
    let firmware = |reason: &str| Boot::Firmware { reason: reason.into() };
    assert_eq!(unbound(|b| b.bty_image_ref = None), (firmware("no_image"), json!("unknown")));
    assert_eq!(
        unbound(|b| b.target_disk_serial = None),
        (firmware("no_target_disk"), json!("exit-fallback"))
    );
    assert_eq!(
        unbound(|b| b.bty_image_ref = Some("ab".repeat(32))),
        (firmware("orphan_ref"), json!("exit-fallback"))
    );
}

#[test]
fn a_failing_plan_boots_the_disk_with_a_message() {
    let failing = [
        "fn boot(m) { throw \"not today\" }",
        "fn boot(m) { 7 }",
        "fn boot(m) { #{ boot: \"everything\" } }",
        "fn boot(m) { loop {} }",
        "fn boot(m) { boot_chain(\"file:///etc/passwd\") }",
        "fn boot(m) { boot_live(\"x\\ninitrd http://evil\") }",
        "fn boot(m) { boot_live(\"bty.server=http://evil\") }",
        "fn boot(m) { m.state.x = 1; throw \"half done\" }",
        "fn other() { }",
    ];
    for source in failing {
        let mut world = World::scripted(source);
        assert!(matches!(world.boot("1"), Boot::Failed { .. }), "{source}");
        assert_eq!(world.kinds(), ["plan.failed", "netboot.pxe.offered"], "{source}");
        assert_eq!(world.machine.state, json!({}), "{source}");
    }
}

#[test]
fn a_plan_can_ask_a_person_on_failure_and_then_writes_nothing() {
    let source = "fn declare() { #{ on_failure: \"person\" } }\n\
                  fn boot(m) { throw \"not today\" }\n\
                  fn plan(m) { #{ image: m.image(), disk: m.target_disk() } }\n\
                  fn run(p) { flash(p.image, p.disk) }";
    let mut world = World::scripted(source);
    world.machine.image_ref = Some(image_ref(SRC));
    world.machine.target_serial = Some("S1".into());
    let Boot::Live { token, fallback: Some(_), .. } = world.boot("1") else {
        panic!("a person was to be asked")
    };
    let order = world.order(Some(&token));
    assert_eq!((order.mode, order.reason.as_deref()), (Mode::Interactive, Some("not today")));
}

#[test]
fn a_plan_that_fails_after_the_flash_is_on_hold_and_flashes_no_more() {
    let source = "fn boot(m) { if m.state.flashed == true { boot_disk() } else { boot_live() } }\n\
                  fn plan(m) { #{ image: m.image(), disk: m.target_disk() } }\n\
                  fn on(m, event) { if event.kind == \"machine.flashed\" { m.state.flashd(); } }\n\
                  fn run(p) { }";
    let mut world = World::scripted(source);
    world.machine.image_ref = Some(image_ref(SRC));
    world.machine.target_serial = Some("S1".into());
    let token = live(&world.boot("1"));
    world.order(Some(&token));
    assert_eq!(world.report(Some(&token), "done"), Receipt::Accepted, "the flash is a fact");
    assert_eq!(world.kinds(), ["machine.flashed", "plan.failed"]);
    for nonce in ["2", "3"] {
        assert!(matches!(world.boot(nonce), Boot::Failed { .. }), "{nonce}");
    }
    assert_eq!(world.order(None).mode, Mode::Exit, "not even when it is asked directly");
}

#[test]
fn a_machine_stalls_after_three_boots_without_a_live_environment() {
    for plan in ["bty-flash-once", "bty-inventory"] {
        let mut world = World::bound(plan);
        for nonce in ["1", "2", "3"] {
            live(&world.boot(nonce));
        }
        let before = world.machine.state.clone();
        assert!(matches!(world.boot("4"), Boot::Failed { .. }), "{plan}");
        assert_eq!(world.kinds(), ["machine.boot_failed", "netboot.pxe.offered"]);
        assert_eq!(
            (world.machine.boot_state().split(':').next(), &world.machine.state),
            (Some("stalled"), &before)
        );
        assert!(matches!(world.boot("5"), Boot::Failed { .. }), "{plan}");
        assert_eq!(world.kinds(), ["netboot.pxe.offered"], "it is told once");
        let other = Binding { netboot_version: "1.2.3".into(), ..binding(plan) };
        world.save(&other);
        live(&world.boot("6"));
    }
}

#[test]
fn interruptions_of_a_started_live_environment_never_stall_a_machine() {
    let mut world = World::bound("bty-flash-once");
    for nonce in ["1", "2", "3", "4", "5", "6"] {
        let token = live(&world.boot(nonce));
        match nonce {
            "1" | "2" => {}
            "4" => world.inventory(Some(&token)),
            _ => assert_eq!(world.order(Some(&token)).mode, Mode::Flash),
        }
    }
    // in a boot for an inventory, posting the inventory shows that the live environment started
    let mut world = World::bound("bty-inventory");
    for nonce in ["1", "2", "3"] {
        let token = live(&world.boot(nonce));
        assert_eq!(world.order(Some(&token)).mode, Mode::Inventory);
    }
    assert!(matches!(world.boot("4"), Boot::Failed { .. }));
}

#[test]
fn without_a_limit_a_machine_never_stalls() {
    let mut world = World::bound("bty-flash-once");
    world.silent_boots_max = 0;
    for nonce in 0..20 {
        live(&world.boot(&nonce.to_string()));
    }
}

#[test]
fn an_invalid_order_asks_a_person() {
    let orders = [
        "throw \"no\"",
        "7",
        "#{}",
        "#{ mode: \"burn\" }",
        "#{ image: #{ src: \"\" }, disk: #{ serial: \"S1\" } }",
        "#{ image: #{ src: \"https://h/a\" }, disk: #{ serial: \"  \" } }",
        "#{ image: m.image(), disk: m.target_disk() }",
    ];
    for order in orders {
        let mut world =
            World::scripted(&format!("fn boot(m) {{ boot_live() }}\nfn plan(m) {{ {order} }}"));
        let token = live(&world.boot("1"));
        let got = world.order(Some(&token));
        assert_eq!(got.mode, Mode::Interactive, "{order}");
        assert!(
            got.reason.is_some() && got.value["catalog"] == "http://srv:8080/catalog.toml",
            "{order}"
        );
        assert!(world.kinds().contains(&"plan.failed"), "{order}");
    }
}

#[test]
fn a_live_environment_started_by_hand_gets_the_order_of_its_plan() {
    let mut world = World::bound("bty-flash-once");
    let order = world.order(None);
    assert_eq!(order.mode, Mode::Flash);
    assert_eq!(world.report(Some(&order.token), "done"), Receipt::Accepted);
    assert_eq!(world.order(None).mode, Mode::Exit);
    let mut world = World::bound("ipxe-exit");
    assert_eq!(world.order(None).mode, Mode::Exit);
    assert_eq!(world.order(Some("made up")).mode, Mode::Interactive, "a token that nobody gave");
}

#[test]
fn a_moved_tag_is_flashed_from_its_resolved_address() {
    let mut world = World::bound("bty-flash-once");
    world.resolved.insert(image_ref(SRC), "https://images.example/pinned.img".into());
    let token = live(&world.boot("1"));
    assert_eq!(
        world.order(Some(&token)).value["image"]["src"],
        "https://images.example/pinned.img"
    );
}

#[test]
fn only_a_changed_digest_is_flashed() {
    let mut world = World::bound("bty-flash-changed");
    world.flash("1");
    assert!(is_disk(&world.boot("2")));
    world.catalog = world.catalog.replace(&"ab".repeat(32), &"cd".repeat(32));
    world.flash("3");
    assert!(is_disk(&world.boot("4")));
}

#[test]
fn a_window_is_open_over_midnight_and_on_its_days() {
    let at = |time: &str, params: Value| {
        let mut world = World::bound("bty-window");
        world.machine.params = params.as_object().cloned().unwrap_or_default();
        world.client.now = Time::parse(time).unwrap();
        !is_disk(&world.boot("1"))
    };
    // November 24 is a Tuesday
    assert!(at("2026-11-24T23:00:00Z", json!({})));
    assert!(at("2026-11-25T05:59:00Z", json!({})));
    assert!(!at("2026-11-25T06:00:00Z", json!({})));
    assert!(at("2026-11-25T05:00:00Z", json!({ "weekdays": "2" })), "it began on Tuesday");
    assert!(!at("2026-11-24T05:00:00Z", json!({ "weekdays": "2" })), "that one began on Monday");
    assert!(at("2026-11-24T12:00:00Z", json!({ "from_hour": 9, "to_hour": 17 })));
    assert!(!at("2026-11-24T17:00:00Z", json!({ "from_hour": 9, "to_hour": 17 })));
}

#[test]
fn a_rollout_takes_its_share_and_the_same_machines_each_time() {
    let takes_part = |mac: u32, percent: i64| {
        let mut world = World::bound("bty-rollout");
        world.machine.mac = format!("5254{mac:08x}").parse().unwrap();
        world.machine.labels = vec!["web".into()];
        world.machine.params =
            json!({ "label": "web", "percent": percent }).as_object().cloned().unwrap();
        !is_disk(&world.boot("1"))
    };
    let of = |percent| (0..100).filter(|&mac| takes_part(mac, percent)).count();
    assert_eq!((of(0), of(100)), (0, 100));
    let some = of(30);
    assert!((15..45).contains(&some), "{some} of 100");
    assert!(
        (0..100).all(|mac| !takes_part(mac, 30) || takes_part(mac, 60)),
        "a larger share has the smaller one"
    );
}

#[test]
fn hardware_chooses_the_image_and_the_disk() {
    let mut world = World::new("bty-flash-by-hardware");
    world.machine.params = json!({
        "image": "debian", "small_image": "other", "small_disk": "100G", "product": "Rack",
    })
    .as_object()
    .cloned()
    .unwrap();
    let token = live(&world.boot("1"));
    assert_eq!(world.order(Some(&token)).mode, Mode::Inventory, "nothing is known yet");
    let post = |world: &mut World, token: &str, bytes: u64| {
        let usb = json!({
            "path": "/dev/sdb", "serial": "USB", "size_bytes": 1 << 30, "removable": true,
        });
        let disks = json!([{ "path": "/dev/sda", "serial": "S9", "size_bytes": bytes }, usb]);
        let posted =
            PostedInventory { disks, lshw: Some(json!({ "product": "Rack 9", "vendor": "ACME" })) };
        world.with(|m, context, client| apply_inventory(m, context, client, Some(token), &posted));
    };
    post(&mut world, &token, 50 << 30);
    let token = live(&world.boot("2"));
    let order = world.order(Some(&token));
    assert_eq!(
        (&order.value["image"]["name"], &order.value["disk"]["serial"]),
        (&json!("other"), &json!("S9"))
    );
    post(&mut world, &token, 500 << 30);
    assert_eq!(world.order(Some(&token)).value["image"]["name"], "debian");
    world.machine.hardware = json!({ "product": "Laptop" });
    assert!(is_disk(&world.boot("3")));
}

mod sequences;

#[test]
fn kernel_arguments_choose_the_environment_and_name_keys_and_not_the_server() {
    let key = "AAAAC3NzaC1lZDI1NTE5AAAAIGn+Zr1o0TnXUu9pKcAlMOYUEqZ0qYzq6xY6t8fHk1aB";
    let check = super::contact::check_arguments;
    for right in [
        "quiet",
        "bty.environment=full",
        &format!("pci=realloc bty.environment=full bty.ssh_key={key}"),
    ] {
        assert_eq!(check(right), Ok(()), "{right}");
    }
    for wrong in [
        "bty.server=http://192.0.2.9",
        "bty.cycle=1",
        "bty.ssh_key",
        "quiet bty.mac=525400123456",
        "a -- b",
    ] {
        assert!(check(wrong).unwrap_err().contains("only the server sets"), "{wrong}");
    }
}
