//! Measures the cost of scripts for `make bench-scripts`: creating an engine, then compiling and
//! calling a plan of thirty lines, in this process and in a worker.
//!
//! Usage: `engine_cost BTY`, where BTY is the `bty` command to start as a worker. Prints one JSON
//! object with times in microseconds.

use std::process::Command;
use std::time::Instant;

use bty_script::decide::{Decider, MachineFacts, PlanCall};
use bty_script::worker::Workers;
use bty_script::{Engine, ImportRoot, Limits, ScriptContext};
use serde_json::json;

/// A plan as an operator would write it, with constants, a condition and a helper.
const PLAN: &str = r#"//! Flashes the assigned image once, then boots the disk. Small machines get
//! another image.

const LARGE = "debian 13 server";
const SMALL = "debian 13 minimal";

fn boot(m) {
    if m.state.flashed == true { #{ boot: "disk" } } else { #{ boot: "live" } }
}

fn image_for(m) {
    let largest = size("0");
    for disk in m.disks {
        let bytes = size(disk.size);
        if bytes > largest { largest = bytes; }
    }
    if largest >= size("100G") { global::LARGE } else { global::SMALL }
}

fn plan(m) {
    let serial = m.disks.filter(|d| d.tran == "nvme").map(|d| d.serial);
    if serial.len() != 1 { throw `expected one NVMe disk, found ${serial.len()}`; }
    #{ image: image_for(m), disk: #{ serial: serial[0] }, label: m.labels.len() }
}

// runs on the machine, all others on the server
fn run(p) {
    log(`flashing ${p.disk.serial}`);
    flash(p.image, disks::by_serial(p.disk.serial));
    reboot();
}
"#;

fn main() {
    let command = std::env::args().nth(1).expect("usage: engine_cost BTY");
    let machine = MachineFacts {
        mac: "52:54:00:12:34:56".into(),
        labels: vec!["lab".into(), "rack 3".into()],
        state: json!({ "flashed": false }),
        disks: json!([
            { "path": "/dev/nvme0n1", "size": "500G", "serial": "S1", "tran": "nvme" },
            { "path": "/dev/sda", "size": "2T", "serial": "S2", "tran": "sata" },
        ]),
        ..MachineFacts::default()
    };
    let engine_us =
        median(50, || drop(Engine::new(ScriptContext::compute_only(), Limits::server())));
    let engine = Engine::new(ScriptContext::compute_only(), Limits::server());
    let compile_us = median(200, || {
        drop(engine.compile("plan.rhai", PLAN, &ImportRoot::None).expect("it compiles"));
    });
    let decider = Decider::new(engine);
    let question = PlanCall {
        name: "plan.rhai",
        text: PLAN,
        function: "plan",
        machine: Some(&machine),
        args: Vec::new(),
        catalog: "",
    };
    let call_us = median(2000, || drop(decider.decide(&question).expect("it plans")));
    let started = Instant::now();
    let workers = Workers::new(
        move || {
            let mut worker = Command::new(&command);
            worker.arg("script-worker");
            worker
        },
        Limits::server(),
        1,
    );
    let call = || drop(workers.decide(&question).expect("it plans"));
    call();
    let first_us = micros(started);
    let worker_us = median(2000, call);
    let lines = PLAN.lines().count();
    println!(
        "{}",
        json!({
            "lines": lines, "engine_us": engine_us, "compile_us": compile_us, "call_us": call_us,
            "worker_first_us": first_us, "worker_call_us": worker_us,
        })
    );
}

fn micros(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e7).round() / 10.0
}

/// The median time of `work` in microseconds.
fn median(rounds: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            work();
            micros(begun)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}
