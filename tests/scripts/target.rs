//! `bty --server … --mac …`: a machine, with a correct and with a faulty server.

use std::io::{BufRead, BufReader};

use bty_tests::command::{Outcome, bty_command, bty_path};
use bty_tests::images::{filter, gpt_image};
use bty_tests::loops::{LoopDisk, has_root};
use bty_tests::plan_server::{Fault, Plan, PlanServer};
use bty_tests::terminal::Start;
use serde_json::{Value, json};

const MAC: &str = "52:54:00:12:34:56";
const MIB: usize = 1 << 20;

/// Runs a machine without a terminal until it exits.
fn machine(server: &PlanServer) -> Outcome {
    let host = server.host();
    let command =
        bty_command(&["--server", &host, "--mac", "52-54-00-12-34-56", "--no-reboot"]).output();
    command.expect("it was built").into()
}

fn script(value: &Value, source: &str) -> String {
    script_for(MAC, value, source)
}

fn script_for(mac: &str, value: &Value, source: &str) -> String {
    let value = value.to_string().replace('{', "#{");
    format!(
        "//! bty plan script 1\n//! machine: {mac}\n//! plan: test-plan\n//! revision: 3\n\
         //! cycle: token-1\nconst PLAN = {value};\n{source}"
    )
}

/// A compressed image, and its content.
fn image() -> (Vec<u8>, Vec<u8>) {
    let content = gpt_image(8 * MIB, 512);
    (filter(&["zstd", "-q3c"], &content), content)
}

/// A plan script that flashes the image of its server to a loop device, selected by path because it
/// has no serial number.
fn flashing(disk: &str) -> impl Fn(&str) -> Plan + Send + Sync + 'static {
    let disk = disk.to_owned();
    move |base: &str| {
        let value = json!({
            "image": { "src": format!("{base}/images/a.img.zst") }, "disk": { "path": disk },
        });
        Plan::Script(script(
            &value,
            "fn run(p) {\n    flash(p.image, disks::probe(p.disk.path));\n    reboot();\n}\n",
        ))
    }
}

#[test]
fn a_plan_script_is_run_reported_and_only_then_rebooted() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let (compressed, content) = image();
    let server = PlanServer::start(flashing(disk.path()), vec![("a.img.zst", compressed)]);
    let run = machine(&server).expect(0);
    assert!(disk.content()[..8 * MIB] == content, "the disk does not hold the image");

    let plan = &server.requests("/plan")[0];
    assert_eq!(plan.target, format!("/pxe/{MAC}/plan"));
    assert!(plan.header("accept").unwrap().starts_with("text/rhai"));
    let reports = server.reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    let (report, disks) = (&reports[0], &reports[0]["disks"]);
    assert_eq!((&report["status"], &report["cycle"]), (&json!("done"), &json!("token-1")));
    assert_eq!(
        (&disks[0]["path"], &disks[0]["disk_bytes"]),
        (&json!(disk.path()), &json!(8 * MIB))
    );
    assert!(disks[0]["verified_bytes"].as_u64().unwrap() >= 8 << 20);
    let inventory = server.requests("/inventory")[0].json();
    assert_eq!(inventory["lshw"]["class"], "system");
    assert!(inventory["disks"].is_array());

    let lines: Vec<&str> = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("bty: ") || line.starts_with("reboot"))
        .collect();
    let wanted = [
        "bty: entered v",
        "bty: server-driven mode:",
        "bty: auto-flash starting",
        "bty: flash complete; rebooting",
        "reboot skipped",
        "bty: exiting v",
    ];
    assert_eq!(lines.len(), wanted.len(), "{}", run.stderr);
    assert!(lines.iter().zip(wanted).all(|(line, begin)| line.starts_with(begin)), "{lines:?}");
}

#[test]
fn progress_is_told_with_the_cycle_and_never_after_the_end() {
    let Some(disk) = LoopDisk::new(256 << 20, 512) else { return };
    let mut content = gpt_image(200 * MIB, 512);
    // no zeros, so that writing takes a while
    content.iter_mut().skip(MIB).step_by(512).for_each(|byte| *byte |= 1);
    let compressed = filter(&["zstd", "-q1c"], &content);
    let server = PlanServer::start(flashing(disk.path()), vec![("a.img.zst", compressed)]);
    let _ = machine(&server).expect(0);
    let all: Vec<Value> =
        server.requests("/status").iter().map(bty_tests::server::Request::json).collect();
    assert_eq!(all.last().unwrap()["status"], "done", "{all:?}");
    assert_eq!(all[0]["status"], "progress", "{all:?}");
    for told in &all[..all.len() - 1] {
        assert_eq!(told["status"], "progress", "{all:?}");
        assert_eq!(told["cycle"], "token-1");
        assert!(
            told["progress"]["phase"].is_string() && told["progress"]["written_bytes"].is_u64(),
            "{told}"
        );
    }
}

#[test]
fn a_server_that_fails_is_asked_again_and_the_end_is_told_until_it_is_heard() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let (compressed, content) = image();
    let faults = [Fault::Status(500), Fault::Reset, Fault::Cut];
    let server = PlanServer::start(flashing(disk.path()), vec![("a.img.zst", compressed)])
        .plan_faults(&faults)
        .inventory_faults(&[Fault::Status(503), Fault::Reset])
        .status_faults(&[Fault::Status(502), Fault::Reset, Fault::Status(429)]);
    let run = machine(&server).expect(0);
    assert!(disk.content()[..8 * MIB] == content);
    assert_eq!(server.requests("/plan").len(), 4);
    // the report is repeated, but there was only one flash
    let reports = server.reports();
    assert!(
        reports.len() >= 2 && reports.iter().all(|report| *report == reports[0]),
        "{reports:?}"
    );
    assert_eq!(run.stderr.matches("auto-flash starting").count(), 1);
    assert_eq!(server.requests("/inventory").len(), 3);
}

#[test]
fn a_server_that_hangs_is_given_up_and_asked_again() {
    let server = PlanServer::start(|_| Plan::Json(json!({ "mode": "exit" })), Vec::new())
        .plan_faults(&[Fault::Hang]);
    let _ = machine(&server).expect(0);
    assert_eq!(server.requests("/plan").len(), 2);
}

#[test]
fn a_plan_that_cannot_run_is_told_once_and_touches_nothing() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let flash = format!("flash(\"/no/such.img\", \"{}\");", disk.path());
    type Case = (&'static str, Plan, &'static str, i32);
    let cases: Vec<Case> = vec![
        (
            "garbage",
            Plan::Text("<html>It works!</html>"),
            "answered \"<html>It works!</html>\", which is not a plan",
            3,
        ),
        (
            "another machine",
            Plan::Script(script_for("52:54:00:00:00:99", &json!(1), "fn run(p) {}")),
            "the plan is for 52:54:00:00:00:99",
            3,
        ),
        (
            "a newer version",
            Plan::Script("//! bty plan script 9\n//! machine: x\n".into()),
            "has version 9",
            3,
        ),
        ("no plan script", Plan::Script("fn run(p) {}".into()), "not a plan script", 3),
        (
            "it does not compile",
            Plan::Script(script(&json!(1), "fn run(p) { flash(")),
            "expecting ')'",
            7,
        ),
        (
            "it has no run",
            Plan::Script(script(&json!(1), "fn walk(p) {}")),
            "does not define run(p)",
            7,
        ),
        (
            "it throws",
            Plan::Script(script(&json!(1), "fn run(p) { throw \"not today\" }")),
            "not today",
            7,
        ),
        (
            "an unknown function",
            Plan::Script(script(&json!(1), "fn run(p) { flahs(p) }")),
            "there is no function flahs",
            7,
        ),
        (
            "an image that is not there",
            Plan::Script(script(&json!(1), &format!("fn run(p) {{ {flash} }}"))),
            "No such file",
            4,
        ),
        (
            "an unknown mode",
            Plan::Json(json!({ "mode": "dance" })),
            "unknown plan mode \"dance\"",
            3,
        ),
        ("no mode", Plan::Json(json!({})), "the plan has no mode", 3),
        (
            "a flash without a disk",
            Plan::Json(json!({ "mode": "flash", "image": "http://x/a.img" })),
            "lacks an image or a disk",
            3,
        ),
    ];
    for (what, plan, reason, code) in cases {
        let server = PlanServer::start(move |_| plan.clone(), Vec::new());
        let run = machine(&server);
        assert_eq!(run.code, code, "{what}: {}", run.stderr);
        assert!(run.stderr.contains(reason), "{what}: {}", run.stderr);
        assert_eq!(server.requests("/plan").len(), 1, "{what} was asked for again");
        let reports = server.reports();
        assert_eq!(reports.len(), 1, "{what}: {reports:?}");
        assert_eq!(reports[0]["status"], "failed", "{what}");
        assert!(reports[0]["reason"].as_str().unwrap().contains(reason), "{what}: {reports:?}");
        assert!(!run.stderr.contains("auto-flash starting"), "{what}: {}", run.stderr);
    }
    assert!(disk.content().iter().all(|&byte| byte == 0), "something was written");
}

#[test]
fn a_refused_report_is_not_repeated() {
    let server = PlanServer::start(|_| Plan::Script(script(&json!(1), "fn run(p) {}")), Vec::new())
        .status_faults(&[Fault::Status(409)]);
    let run = machine(&server).expect(0);
    assert!(run.stderr.contains("rejected the request: 409"), "{}", run.stderr);
    assert_eq!(server.reports().len(), 1);
}

#[test]
fn an_older_server_gets_what_it_understands() {
    if !has_root() {
        return;
    }
    let plan = |base: &str| {
        let image = format!("{base}/images/a.img.zst");
        Plan::Json(json!({
            "mode": "flash", "image": image, "target_disk_serial": "NO-SUCH-DISK", "name": "a",
        }))
    };
    // end the wait for the disk, which could still appear
    let server = PlanServer::start(plan, Vec::new());
    let host = server.host();
    let mut child = bty_command(&["--server", &host, "--mac", MAC, "--no-reboot"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("waiting up to")), "it does not wait for the disk");
    // the pipe stays open: bty has more to say
    let rest = std::thread::spawn(move || lines.count());
    bty_tests::command::tool(&["kill", "-INT", &child.id().to_string()]);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    rest.join().unwrap();
    let reports = server.reports();
    assert_eq!(reports, [json!({ "status": "failed", "reason": "cancelled" })]);
}

#[test]
fn the_other_modes_of_an_older_server_do_as_they_say() {
    let inventory = PlanServer::start(|_| Plan::Json(json!({ "mode": "inventory" })), Vec::new())
        // the request for the plan makes the machine known
        .inventory_faults(&[Fault::Status(404)]);
    let run = machine(&inventory).expect(0);
    assert!(
        run.stderr.contains("Plan: inventory + reboot") && run.stderr.contains("reboot skipped"),
        "{}",
        run.stderr
    );
    assert_eq!(inventory.requests("/inventory").len(), 2);
    assert!(inventory.reports().is_empty());

    let exit = PlanServer::start(|_| Plan::Json(json!({ "mode": "exit" })), Vec::new());
    let run = machine(&exit).expect(0);
    assert!(
        run.stderr.contains("Plan: nothing to do") && !run.stderr.contains("reboot"),
        "{}",
        run.stderr
    );
}

/// A machine with a person at its terminal.
fn attended(server: &PlanServer) -> Start {
    let host = server.host();
    Start::new(&bty_path(), &["--server", &host, "--mac", MAC, "--no-reboot"])
        .env("BTY_IMAGE_ROOT", "/no/images")
}

#[test]
fn a_failed_plan_ends_in_the_wizard_with_a_banner() {
    let server = PlanServer::start(
        |_| Plan::Script(script(&json!(1), "fn run(p) { throw \"not today\" }")),
        Vec::new(),
    );
    let mut terminal = attended(&server).start();
    terminal.wait_for_prompt("> Pick an image:");
    let screen = terminal.screen();
    assert!(
        screen.contains("the plan failed: not today") && screen.contains(&format!("mac: {MAC}")),
        "{screen}"
    );
    assert!(
        screen.contains(&format!("catalog: http://{}/catalog.toml", server.host())),
        "{screen}"
    );
    terminal.answer("> Pick an image:", "q");
    assert_eq!(terminal.wait_exit(), 0, "{}", terminal.screen());
    assert_eq!(server.requests("/plan").len(), 1);
    assert_eq!(server.reports().len(), 1);
}

#[test]
fn somebody_at_the_machine_need_not_wait_for_the_server() {
    let server = PlanServer::start(|_| Plan::Json(json!({ "mode": "exit" })), Vec::new())
        .plan_faults(&[Fault::Status(500); 100]);
    let mut terminal = attended(&server).start();
    terminal.wait_for("(press Enter for the wizard)");
    terminal.send("\r");
    terminal.wait_for("the plan was not fetched");
    terminal.answer("> Pick an image:", "q");
    assert_eq!(terminal.wait_exit(), 0);
    assert!(terminal.is_restored());
}

#[test]
fn an_interactive_plan_is_the_wizard_with_its_catalog() {
    let plan = |base: &str| {
        Plan::Json(json!({ "mode": "interactive", "catalog": format!("{base}/lab/catalog.toml") }))
    };
    let server = PlanServer::start(plan, Vec::new());
    let mut terminal = attended(&server).start();
    terminal.wait_for(&format!("catalog: http://{}/lab/catalog.toml", server.host()));
    terminal.answer("> Pick an image:", "q");
    assert_eq!(terminal.wait_exit(), 0);
}

#[test]
fn ctrl_c_during_a_plan_is_told_to_the_server_and_ends_in_the_wizard() {
    let plan = |_: &str| {
        Plan::Script(script(&json!(1), "fn run(p) { ui::say(\"waiting\"); sleep(3600); }"))
    };
    let server = PlanServer::start(plan, Vec::new());
    let mut terminal = attended(&server).start();
    terminal.wait_for("waiting");
    terminal.send("\x03");
    terminal.wait_for("the plan failed: cancelled");
    terminal.answer("> Pick an image:", "q");
    assert_eq!(terminal.wait_exit(), 0);
    assert_eq!(
        server.reports(),
        [json!({ "status": "failed", "reason": "cancelled", "cycle": "token-1" })]
    );
    assert!(terminal.is_restored());
}
