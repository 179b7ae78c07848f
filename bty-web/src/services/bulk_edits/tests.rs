//! Changes of many machines against a database, with plans that are decided in this process.

use std::collections::BTreeSet;
use std::process::Command;

use bty_script::decide::{Decision, PlanCall};
use bty_script::worker::Workers;
use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::config::limits::PerMinute;
use crate::domain::machine::{Cycle, Stage};
use crate::domain::time::Time;
use crate::services::event_bus::EventBus;

struct BulkBench {
    bulk: BulkEdits,
    db: Database,
    _dir: tempfile::TempDir,
}

/// A plan that boots the live environment if the machine has the label `live`.
fn evaluate(question: &PlanCall<'_>) -> Result<Decision, bty_script::ScriptError> {
    let is_live = question.machine.is_some_and(|m| m.labels.iter().any(|label| label == "live"));
    let value = match question.function {
        "boot" if is_live => json!({ "boot": "live" }),
        "boot" => json!({ "boot": "disk" }),
        _ => json!({ "mode": "inventory" }),
    };
    Ok(Decision { value, state: json!({}), is_defined: question.function != "on" })
}

impl BulkBench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bus = EventBus::default();
        let db = Database::open(&dir.path().join("state.db"), bus.clone()).unwrap();
        let snapshots = Arc::new(Snapshots::open(db.clone(), None).unwrap());
        let metrics = Arc::<Metrics>::default();
        let machines = Arc::new(Machines::new(
            db.clone(),
            bus,
            metrics.clone(),
            snapshots.clone(),
            Arc::new(evaluate),
            Arc::new(PerMinute::new(0)),
            0,
        ));
        let reads = MachineReads::new(db.clone(), snapshots.clone());
        let config = Arc::new(Config::default());
        let edits = MachineEdits::new(machines.clone(), db.clone(), metrics.clone(), config);
        // these tests call the evaluator of this process
        let workers = Workers::new(|| Command::new("/bin/false"), bty_script::Limits::server(), 1);
        let simulations = Arc::new(Simulations::new(workers, 1));
        let bulk =
            BulkEdits::new(db.clone(), machines, reads, edits, snapshots, simulations, metrics);
        Self { bulk, db, _dir: dir }
    }

    fn put(&self, machines: Vec<Machine>) {
        let put = move |t: &store::Transaction<'_>| {
            machines.iter().try_for_each(|machine| store::machines::put(t, machine))
        };
        self.db.write_blocking(put).unwrap();
    }

    fn all(&self) -> BTreeMap<Mac, Machine> {
        let machines = self.db.read_blocking(store::machines::all).unwrap();
        machines.into_iter().map(|machine| (machine.mac.clone(), machine)).collect()
    }

    fn decide(&self, job: &BulkJob) -> (BulkDecisions, BulkReport) {
        let decisions = self.bulk.decide(job, &evaluate).unwrap();
        let report = decisions.report(job);
        (decisions, report)
    }

    fn commit(&self, job: BulkJob, decisions: BulkDecisions, digest: &str) -> Result<BulkReport> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.bulk.commit(job, decisions, Some(digest.to_owned())))
    }

    fn job(&self, request: BulkRequest) -> BulkJob {
        self.bulk.job(request, who()).unwrap()
    }
}

fn who() -> ClientContext {
    ClientContext { now: Time(1_000_000), ..ClientContext::default() }
}

fn mac(n: u8) -> Mac {
    format!("52:54:00:00:00:{n:02x}").parse().unwrap()
}

fn request(filter: &str, action: BulkAction) -> BulkRequest {
    BulkRequest { filter: Some(filter.into()), macs: None, action, dry_run: false, digest: None }
}

fn machine(n: u8, labels: &[&str]) -> Machine {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    Machine { labels, ..Machine::new(mac(n), "bty-inventory", Time(1)) }
}

fn working(machine: Machine) -> Machine {
    let cycle = Cycle {
        token: "t".into(),
        opened_at: Time(1),
        opened_by: None,
        stage: Stage::Working,
        is_tokenless: false,
        fallback: None,
        has_inventory: false,
        is_inventory_unreadable: false,
        order: None,
        progress: None,
        heard_at: Time(1),
        stalled_at: None,
        is_past: false,
        silent_before: 0,
    };
    Machine { cycle: Some(cycle), ..machine }
}

#[test]
fn a_change_lists_what_happens_and_does_exactly_that() {
    let bench = BulkBench::new();
    bench.put(vec![
        machine(1, &["lab"]),
        machine(2, &["lab", "live"]),
        machine(3, &[]),
        working(machine(4, &["lab"])),
    ]);
    let job = bench.job(request("label:lab", BulkAction::Label(vec!["live".into()])));
    let (decisions, report) = bench.decide(&job);
    assert_eq!(report.machines.len(), 1, "{report:?}");
    let item = &report.machines[0];
    assert_eq!(
        (item.mac.as_str(), item.next_boot.as_str()),
        (mac(1).as_str(), "take the inventory")
    );
    assert_eq!((report.unchanged, &report.at_work), (1, &vec![mac(4).to_string()]));
    let before = bench.all();
    bench.commit(job, decisions, &report.digest).unwrap();
    let after = bench.all();
    assert_eq!(after[&mac(1)].labels, ["lab", "live"]);
    for n in [2, 3, 4] {
        assert_eq!(before[&mac(n)], after[&mac(n)]);
    }
}

#[test]
fn a_change_is_refused_when_the_set_or_what_would_happen_has_changed() {
    let changes: [fn(&BulkBench); 4] = [
        |bench| bench.put(vec![machine(9, &["lab"])]),
        |bench| bench.put(vec![working(machine(1, &["lab"]))]),
        |bench| bench.put(vec![machine(1, &["lab", "live"])]),
        |bench| bench.put(vec![Machine { name: "Seven".into(), ..machine(1, &["lab"]) }]),
    ];
    for change in changes {
        let bench = BulkBench::new();
        bench.put(vec![machine(1, &["lab"]), machine(2, &["lab"])]);
        let job = bench.job(request("label:lab", BulkAction::OrderAgain));
        let (decisions, report) = bench.decide(&job);
        change(&bench);
        let before = bench.all();
        let error = bench.commit(job, decisions, &report.digest).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert_eq!(bench.all(), before);
    }
}

#[test]
fn a_machine_that_was_only_seen_again_is_no_reason_to_refuse() {
    let bench = BulkBench::new();
    bench.put(vec![machine(1, &["lab"])]);
    let job = bench.job(request("label:lab", BulkAction::OrderAgain));
    let (decisions, report) = bench.decide(&job);
    let seen_at = Some(Time(77));
    bench.put(vec![Machine { last_seen_at: seen_at, ..machine(1, &["lab"]) }]);
    bench.commit(job, decisions, &report.digest).unwrap();
    assert_eq!(bench.all()[&mac(1)].last_seen_at, seen_at, "nothing is written over");
}

#[test]
fn failures_that_came_after_the_list_are_not_acknowledged() {
    let bench = BulkBench::new();
    bench.put(vec![machine(1, &[])]);
    let fail = || {
        let event = NewEvent::new("machine.flash_failed", mac(1).as_str(), "why");
        bench.db.write_blocking(move |t| t.record(&event)).unwrap();
    };
    fail();
    let job = bench.job(request("", BulkAction::Acknowledge));
    let (decisions, report) = bench.decide(&job);
    fail();
    assert!(bench.commit(job.clone(), decisions, &report.digest).is_err());
    let (decisions, report) = bench.decide(&job);
    bench.commit(job, decisions, &report.digest).unwrap();
    let left = bench.db.read_blocking(|conn| store::events::failures_of(conn, mac(1).as_str()));
    assert_eq!(left.unwrap(), Vec::<i64>::new());
}

#[test]
fn requests_that_select_nothing_definite_are_refused() {
    let bench = BulkBench::new();
    let both = BulkRequest { macs: Some(vec![]), ..request("", BulkAction::Delete) };
    let neither = BulkRequest { filter: None, ..request("", BulkAction::Delete) };
    for request in [both, neither, request("", BulkAction::Hold(String::new()))] {
        assert_eq!(bench.bulk.job(request, who()).unwrap_err().kind, ErrorKind::Invalid);
    }
    let given = vec!["52-54-00-00-00-01".to_owned(), "x".into(), "525400000001".into()];
    let chosen = BulkRequest { filter: None, macs: Some(given), ..request("", BulkAction::Delete) };
    let report = bench.decide(&bench.job(chosen)).1;
    let skipped: Vec<&str> = report.skipped.iter().map(|machine| machine.mac.as_str()).collect();
    assert_eq!(skipped, ["x", mac(1).as_str()], "no address, and unknown");
}

fn row(n: u8, plan: &str) -> TableRow {
    let mac = mac(n).to_string();
    TableRow { mac, plan: Some(plan.into()), ..TableRow::default() }
}

#[test]
fn a_table_adds_machines_and_changes_known_ones_only_on_request() {
    for replace in [false, true] {
        let bench = BulkBench::new();
        bench.put(vec![machine(1, &["lab"]), machine(2, &[]), working(machine(3, &[]))]);
        let rows = vec![
            row(1, "ipxe-exit"),
            row(2, "bty-inventory"),
            row(3, "ipxe-exit"),
            row(4, "ipxe-exit"),
            TableRow { labels: Some(vec!["second".into()]), ..row(4, "ipxe-exit") },
            row(5, "no-such-plan"),
            row(6, "bty-flash-once"),
            TableRow { image: Some("nothing".into()), ..row(7, "ipxe-exit") },
            TableRow { mac: "here".into(), ..TableRow::default() },
        ];
        let job = table_job(rows, replace, who());
        let (decisions, report) = bench.decide(&job);
        bench.commit(job, decisions, &report.digest).unwrap();
        let changed: Vec<(&str, bool)> =
            report.machines.iter().map(|item| (item.mac.as_str(), item.is_new)).collect();
        let (first, fourth) = (mac(1).to_string(), mac(4).to_string());
        let expected: &[(&str, bool)] = match replace {
            true => &[(first.as_str(), false), (fourth.as_str(), true)],
            false => &[(fourth.as_str(), true)],
        };
        assert_eq!(changed, expected);
        assert_eq!((report.unchanged, report.at_work.len()), (1, 1));
        let reasons: Vec<String> =
            report.skipped.iter().map(|m| format!("{}: {}", m.mac, m.reason)).collect();
        let reasons = reasons.join("\n");
        for why in [
            "04: the table names it twice",
            "05: boot_mode: the plan \"no-such-plan\" does not exist",
            "06: bty_image_ref: the plan needs an image",
            "07: the catalog has no image \"nothing\"",
            "here: invalid MAC address",
        ] {
            assert!(reasons.contains(why), "{why}: {reasons}");
        }
        let after = bench.all();
        assert_eq!(after[&mac(1)].labels, ["lab"], "a table without labels keeps them");
        assert_eq!(after[&mac(4)].labels, Vec::<String>::new());
        assert_eq!(after.len(), 4);
    }
}

/// What else happens between the list and the change.
#[derive(Clone, Debug)]
enum Meanwhile {
    Put(Box<Machine>),
    Delete(u8),
}

fn any_machine() -> impl Strategy<Value = Machine> {
    let labels = prop::sample::subsequence(vec!["a", "b", "live"], 0..=3);
    (0..12_u8, labels, any::<[bool; 3]>()).prop_map(
        |(n, labels, [is_working, is_held, is_seen])| {
            let machine = Machine {
                hold: is_held.then(|| "why".into()),
                last_seen_at: is_seen.then_some(Time(5)),
                ..machine(n, &labels)
            };
            if is_working { working(machine) } else { machine }
        },
    )
}

fn any_action() -> impl Strategy<Value = BulkAction> {
    let plan = |plan: &str| {
        Box::new(MachineChanges { boot_mode: Some(plan.into()), ..Default::default() })
    };
    prop_oneof![
        Just(BulkAction::Assign(plan("ipxe-exit"))),
        Just(BulkAction::Assign(plan("bty-flash-once"))),
        Just(BulkAction::Label(vec!["live".into()])),
        Just(BulkAction::Unlabel(vec!["a".into()])),
        Just(BulkAction::OrderAgain),
        Just(BulkAction::Acknowledge),
        Just(BulkAction::Hold("why".into())),
        Just(BulkAction::Release),
        Just(BulkAction::Delete),
    ]
}

fn any_request() -> impl Strategy<Value = BulkRequest> {
    let filter = prop_oneof![Just(""), Just("label:a"), Just("label:b state:trouble"), Just(":0")];
    let macs = prop::collection::vec(0..14_u8, 0..6);
    (any::<bool>(), filter, macs, any_action()).prop_map(|(is_filter, filter, macs, action)| {
        let macs = macs.into_iter().map(|n| mac(n).hyphens()).collect();
        match is_filter {
            true => request(filter, action),
            false => BulkRequest { filter: None, macs: Some(macs), ..request("", action) },
        }
    })
}

fn any_meanwhile() -> impl Strategy<Value = Meanwhile> {
    prop_oneof![
        any_machine().prop_map(|machine| Meanwhile::Put(Box::new(machine))),
        (0..12_u8).prop_map(Meanwhile::Delete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn a_change_touches_no_machine_outside_the_confirmed_list(
        machines in prop::collection::vec(any_machine(), 0..10),
        request in any_request(),
        meanwhile in prop::collection::vec(any_meanwhile(), 0..3),
    ) {
        let bench = BulkBench::new();
        bench.put(machines);
        let job = bench.job(request);
        let (decisions, confirmed) = bench.decide(&job);
        for change in meanwhile {
            match change {
                Meanwhile::Put(machine) => bench.put(vec![*machine]),
                Meanwhile::Delete(n) => {
                    bench.db.write_blocking(move |t| store::machines::delete(t, &mac(n))).unwrap();
                }
            }
        }
        let before = bench.all();
        let result = bench.commit(job, decisions, &confirmed.digest);
        let after = bench.all();
        let listed: BTreeSet<Mac> =
            confirmed.machines.iter().map(|item| item.mac.parse().unwrap()).collect();
        let changed: BTreeSet<Mac> = before
            .keys()
            .chain(after.keys())
            .filter(|mac| before.get(*mac) != after.get(*mac))
            .cloned()
            .collect();
        match result {
            Err(error) => {
                prop_assert_eq!(error.kind, ErrorKind::Conflict);
                prop_assert!(changed.is_empty(), "{:?}", changed);
            }
            Ok(done) => {
                prop_assert_eq!(done.machines, confirmed.machines);
                prop_assert_eq!(changed, listed);
            }
        }
    }
}
