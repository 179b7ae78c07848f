//! Scripts cannot exhaust the machine's resources. A test binary of its own, since the limits
//! measure the memory of the whole process.

#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use bty::CancelToken;
use bty_script::decide::{MachineFacts, PlanCall};
use bty_script::worker::Workers;
use bty_script::{Cause, Engine, ImportRoot, Limits, ScriptContext, ScriptError, ScriptOutcome};
use serde_json::{Value, json};

fn compute(limits: Limits, text: &str) -> Result<ScriptOutcome, ScriptError> {
    let engine = Engine::new(ScriptContext::compute_only(), limits);
    let script = engine.compile("script.rhai", text, &ImportRoot::None)?;
    engine.run(&script, &[], &CancelToken::new())
}

/// Scripts that exhaust a resource, each in a different way.
const BOMBS: [(&str, &str); 10] = [
    ("a loop without an end", "let x = 0;\nloop { x += 1; }"),
    ("a recursion without an end", "fn f(n) { f(n + 1) }\nf(0);"),
    ("a string that doubles", "let s = \"xxxxxxxx\";\nloop { s += s; }"),
    ("an array that grows", "let a = [];\nloop { a.push(\"xxxxxxxxxxxxxxxx\"); }"),
    ("an array in an array", "let a = [1];\nloop { a = [a, a]; }"),
    (
        "a map that grows by assignment",
        "let m = #{};\nlet i = 0;\nloop { let s = \"\"; s.pad(60000, 'x'); m[`${i}`] = s; i += 1; \
         }",
    ),
    ("a map in a map", "let m = #{ a: 1 };\nloop { m = #{ a: m, b: m }; }"),
    ("a string that is padded", "let s = \"\";\ns.pad(2000000000, 'x');"),
    ("a blob", "let b = blob(2000000000);"),
    (
        "variables",
        "fn f(n) { let a = \"x\"; a.pad(60000, 'x'); let b = a + \"y\"; f(n + 1) }\nf(0);",
    ),
];

// a single test, since tests in parallel would count each other's memory
#[test]
fn every_resource_bomb_hits_a_limit_with_its_place() {
    let mut slow = Limits::server().with_time(Some(Duration::from_secs(2)));
    // memory and time have to hold alone
    slow.operations = 0;
    for (what, text) in BOMBS {
        let mut all = vec![Limits::server(), Limits::operator()];
        match what {
            "a loop without an end" => drop(all.pop()),
            _ => all.push(slow.clone()),
        }
        for limits in all {
            let error = compute(limits, text).map(drop).expect_err(what);
            assert_eq!(error.cause, Cause::Limit, "{what}: {error}");
            assert!(error.place.is_some(), "{what}: {error}");
        }
    }
    let eats = "let m = #{};\nlet i = 0;\nloop { let s = \"\"; s.pad(1000000, 'x'); m[`${i}`] = s; \
                i += 1; }";
    let error = compute(Limits::operator(), eats).unwrap_err();
    assert!(error.message.contains("of memory"), "{error}");
}

fn workers(count: usize) -> Workers {
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bty"));
        command.arg("script-worker");
        command
    };
    Workers::new(command, Limits::server(), count)
}

fn call_boot(
    workers: &Workers,
    name: &str,
    text: &str,
    machine: &MachineFacts,
) -> Result<Value, ScriptError> {
    let plan_call = PlanCall {
        name,
        text,
        function: "boot",
        machine: Some(machine),
        args: Vec::new(),
        catalog: "",
    };
    workers.decide(&plan_call).map(|decision| decision.value)
}

fn call(workers: &Workers, name: &str, text: &str) -> Result<Value, ScriptError> {
    call_boot(workers, name, text, &MachineFacts::default())
}

#[test]
fn a_worker_returns_values_and_failures_with_their_place() {
    let workers = workers(1);
    let text =
        "fn boot(m) { if m.state.flashed == true { \"disk\" } else { throw `not yet: ${m.mac}` } }";
    for _ in 0..3 {
        let machine = MachineFacts { state: json!({ "flashed": true }), ..MachineFacts::default() };
        assert_eq!(call_boot(&workers, "plan.rhai", text, &machine).unwrap(), json!("disk"));
        let machine = MachineFacts { mac: "52:54".into(), ..MachineFacts::default() };
        let error = call_boot(&workers, "plan.rhai", text, &machine).unwrap_err();
        assert_eq!((error.cause, error.message.as_str()), (Cause::Throw, "not yet: 52:54"));
        assert_eq!(error.place.unwrap().line, 1);
    }
    let error = call(&workers, "bad.rhai", "fn boot( {").unwrap_err();
    assert_eq!(error.cause, Cause::Syntax, "{error}");
    let error = call(&workers, "reads.rhai", "fn boot(m) { disks() }").unwrap_err();
    assert_eq!(error.kind(), "capability", "{error}");
}

#[test]
fn calls_succeed_after_a_worker_was_killed() {
    let workers = workers(2);
    for (what, text) in BOMBS {
        let bomb =
            format!("fn boot(machine) {{ {} }}", text.replace("fn f(n)", "let g = |n| n; fn f(n)"));
        // functions cannot be nested; the test above covers these scripts
        if text.contains("fn f") {
            continue;
        }
        let error = call(&workers, "bomb.rhai", &bomb).expect_err(what);
        assert_eq!(error.cause, Cause::Limit, "{what}: {error}");
        let answer = call(&workers, "good.rhai", "fn boot(m) { 1 }");
        assert_eq!(answer.unwrap(), json!(1), "after {what}");
    }
}

#[test]
fn a_worker_that_dies_is_replaced() {
    let killed = shell("kill -9 $$");
    for _ in 0..2 {
        let error = call(&killed, "x.rhai", "fn boot(m) { 1 }").unwrap_err();
        assert_eq!(error.cause, Cause::Limit, "{error}");
    }
    let error = call(&shell("exec sleep 1000"), "x.rhai", "fn boot(m) { 1 }").unwrap_err();
    assert!(error.message.contains("exceeded its time limit"), "{error}");
}

/// Workers that are no workers: a shell runs `script`.
fn shell(script: &'static str) -> Workers {
    let command = move || {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    };
    Workers::new(command, Limits::server(), 1)
}

#[test]
fn a_program_that_is_no_worker_is_told_from_a_script_that_needs_too_much() {
    workers(1).check().unwrap();
    let missing = Workers::new(|| Command::new("/no/such/program"), Limits::server(), 1);
    for (workers, expected) in [
        (missing, "starting the script worker /no/such/program: "),
        (shell("exit 3"), "running check in a script worker: its process ended with exit code 3"),
        (shell("cat"), "running check in a script worker: its answer cannot be read: "),
    ] {
        let error = workers.check().unwrap_err();
        assert_eq!(error.cause, Cause::Host, "{error}");
        assert!(error.message.starts_with(expected), "{error}");
    }
}
