//! Tests of the rules with the bundled plans: the reference's table of states, the cases that it
//! misses, and random sequences.

use std::collections::HashMap;

use bty_script::decide::Decider;
use bty_script::plan::{FlashedDisk, Report};
use bty_script::{Engine, Limits, ScriptContext};
use serde_json::{Value, json};

use super::boot::Boot;
use super::contact::{Contact, decide_boot};
use super::order::{Mode, Order, decide_order};
use super::report::{PostedInventory, Receipt, apply_inventory, apply_report};
use super::save::{Assignment, apply_assignment};
use super::*;
use crate::domain::catalog_image::CatalogImage;
use crate::domain::plan::evaluate::DecisionContext;
use crate::domain::plan::{Plan, bundled, examine};

mod cycles;
mod delta;
mod disks;
mod failures;
mod pins;
mod plans;
mod saves;
mod sequences;
mod silence;

const SRC: &str = "https://images.example/debian.img";
const OTHER: &str = "https://images.example/other.img";

fn image_ref(src: &str) -> String {
    bty::catalog::image_ref(src).unwrap().to_string()
}

/// The image at `src` with a digest of `digits`.
fn catalog_image(src: &str, digits: &str) -> CatalogImage {
    CatalogImage {
        name: "debian".into(),
        src: src.into(),
        sha256: Some(digits.repeat(32)),
        moved_at: None,
        has_checksum_file: true,
    }
}

/// A machine and its environment.
struct World {
    decider: Decider,
    catalog: String,
    resolved: HashMap<String, String>,
    names: HashMap<String, String>,
    images: HashMap<String, CatalogImage>,
    pins_images: bool,
    plan: Option<Plan>,
    tokens: std::sync::atomic::AtomicU32,
    silent_boots_max: u32,
    allows_sample_proof: bool,
    client: ClientContext,
    machine: Machine,
    events: Vec<NewEvent>,
}

impl World {
    fn new(plan: &str) -> Self {
        let client = ClientContext {
            ip: Some("10.0.0.9".into()),
            name: None,
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
            images: HashMap::from([(image_ref(SRC), catalog_image(SRC, "ab"))]),
            pins_images: false,
            plan: None,
            tokens: 0.into(),
            silent_boots_max: 3,
            allows_sample_proof: false,
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
        world.save(&assignment(plan));
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
            images: &self.images,
            pins_images: self.pins_images,
            evaluator: &decide,
            window_ms: 3000,
            silent_boots_max: self.silent_boots_max,
            allows_sample_proof: self.allows_sample_proof,
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
                &Contact { nonce: Some(nonce.into()), is_tokenless: false, is_full: false },
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
                &Contact { nonce: Some(nonce.into()), is_tokenless: true, is_full: false },
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
            ..PostedInventory::default()
        };
        self.with(|m, context, client| apply_inventory(m, context, client, token, &posted));
    }

    fn save(&mut self, assignment: &Assignment) {
        self.use_plan(&assignment.boot_mode);
        self.with(|m, context, client| {
            apply_assignment(Some(m), m.clone(), context, client, assignment)
        });
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

fn assignment(plan: &str) -> Assignment {
    Assignment {
        boot_mode: plan.into(),
        bty_image_ref: Some(image_ref(SRC)),
        target_disk_serial: Some("S1".into()),
        ..Assignment::default()
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
        ..FlashedDisk::default()
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
