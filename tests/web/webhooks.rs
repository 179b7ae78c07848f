//! Webhooks: real requests to a real receiver.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use bty_tests::command::tool;
use bty_tests::server::{Reply, Request, Server};
use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually};
use serde_json::{Value, json};

/// The secret `whsec_…`, and its bytes in hexadecimal digits.
const SECRET: (&str, &str) =
    ("whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4", "6162636465666768696a6b6c6d6e6f707172737475767778");

/// Loopback addresses are refused by default.
const REACH: (&str, &str) = ("BTY_CACHE_REACH", "127.0.0.0/8");

/// A server with one webhook, which has these further lines.
fn start(url: &str, lines: &str, env: &[(&str, &str)]) -> Web {
    let mut web = Web::idle(None, env);
    let text = format!("[[webhooks]]\nname = \"ops\"\nurl = \"{url}\"\n{lines}\n");
    std::fs::write(web.state().join("bty.toml"), text).unwrap();
    web.start_again();
    web
}

fn standard(kinds: &str) -> String {
    format!("secret = \"{}\"\nevents = {kinds}", SECRET.0)
}

/// A receiver that responds with the status in the returned cell.
fn receiver(status: u16) -> (Server, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(status));
    let current = Arc::clone(&status);
    (Server::start(move |_| Reply::status(current.load(Ordering::SeqCst))), status)
}

fn add_machine(web: &Web, number: usize) {
    web.send("PUT", &format!("/machines/0200000000{number:02}"), &json!({})).expect(200);
}

fn state(web: &Web) -> Value {
    web.get("/webhooks").expect(200).json()[0].clone()
}

/// Numbers of the machines whose events were accepted or tried, in order.
fn subjects(requests: &[Request]) -> Vec<String> {
    let subject = |request: &Request| request.json()["data"]["subject_id"].as_str().unwrap().into();
    requests.iter().map(subject).collect()
}

fn mac(number: usize) -> String {
    format!("02:00:00:00:00:{number:02}")
}

/// Waits until nothing waits for delivery.
fn wait_for_delivery(web: &Web) {
    eventually(LIMIT, "all events are delivered", || {
        let state = state(web);
        (state["behind"] == 0 && state["failures"] == 0).then_some(())
    });
}

#[test]
fn events_arrive_in_order_signed_and_again_after_a_failure() {
    let failing =
        Server::start(|request| Reply::status(if request.number < 2 { 503 } else { 200 }));
    let web = start(&failing.url("/s3cret-path"), &standard("[\"machine.*\"]"), &[REACH]);
    for number in 0..3 {
        add_machine(&web, number);
    }
    wait_for_delivery(&web);
    let requests = failing.requests();
    assert_eq!(subjects(&requests), [0, 0, 0, 1, 2].map(mac), "the first one was tried thrice");
    let ids: Vec<&str> = requests.iter().map(|r| r.header("webhook-id").unwrap()).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
    for request in &requests {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/s3cret-path"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.json()["type"], "machine.created");
        let header = |name| request.header(name).unwrap();
        let body = String::from_utf8(request.body.clone()).unwrap();
        let signed = format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp"));
        assert_eq!(header("webhook-signature"), format!("v1,{}", hmac(&signed)));
    }
    let metrics = web.get("/metrics").expect(200).text();
    for line in [
        "bty_webhook_deliveries_total{webhook=\"ops\",result=\"delivered\"} 3",
        "bty_webhook_deliveries_total{webhook=\"ops\",result=\"failed\"} 2",
        "bty_webhook_behind{webhook=\"ops\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let shown = web.get("/webhooks").expect(200).text() + &web.log();
    assert!(!shown.contains("s3cret-path") && !shown.contains(SECRET.0), "{shown}");
}

/// HMAC-SHA256 in base64, computed by another program.
fn hmac(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signed");
    std::fs::write(&path, text).unwrap();
    let command = format!(
        "openssl dgst -sha256 -mac HMAC -macopt hexkey:{} -binary '{}' | base64",
        SECRET.1,
        path.display()
    );
    tool(&["sh", "-c", &command]).trim().to_owned()
}

#[test]
fn delivery_continues_after_a_power_cut_where_it_stopped() {
    let (receiver, status) = receiver(204);
    let mut web = start(&receiver.url("/"), &standard("[\"machine.*\"]"), &[REACH]);
    add_machine(&web, 0);
    wait_for_delivery(&web);
    status.store(500, Ordering::SeqCst);
    for number in 1..4 {
        add_machine(&web, number);
    }
    eventually(LIMIT, "a delivery fails", || (state(&web)["failures"] != 0).then_some(()));
    web.kill();
    let before = receiver.requests().len();
    status.store(204, Ordering::SeqCst);
    web.start_again();
    wait_for_delivery(&web);
    assert_eq!(subjects(&receiver.requests()[before..]), [1, 2, 3].map(mac));
    // the events of the outage are the log itself, so that nothing was lost or repeated
    web.restart();
    add_machine(&web, 4);
    wait_for_delivery(&web);
    assert_eq!(subjects(&receiver.requests()[before..]), [1, 2, 3, 4].map(mac));
}

#[test]
fn a_failing_webhook_is_recorded_once_and_its_recovery_too() {
    let (receiver, status) = receiver(500);
    let web = start(&receiver.url("/"), &standard("[\"machine.*\"]"), &[REACH]);
    add_machine(&web, 0);
    eventually(LIMIT, "a failure is recorded", || web.events("ops").first().cloned());
    let failing = state(&web);
    assert_eq!(failing["last_error"], "the receiver responded with 500");
    assert!(failing["failing_since"].is_string() && failing["behind"] != 0, "{failing}");
    status.store(200, Ordering::SeqCst);
    wait_for_delivery(&web);
    let recorded = eventually(LIMIT, "the recovery is recorded", || {
        Some(web.events("ops")).filter(|events| events.len() > 1)
    });
    assert_eq!(recorded, ["webhook.failed", "webhook.recovered"]);
}

#[test]
fn a_receiver_that_is_gone_gets_no_more_events() {
    let (receiver, _) = receiver(410);
    let web = start(&receiver.url("/"), &standard("[\"machine.*\"]"), &[REACH]);
    for number in 0..3 {
        add_machine(&web, number);
    }
    let disabled = eventually(LIMIT, "the webhook is disabled", || {
        Some(state(&web)).filter(|state| state["is_disabled"] == true)
    });
    assert!(disabled["last_error"].as_str().unwrap().contains("restart the server"), "{disabled}");
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(web.events("ops"), ["webhook.failed"]);
}

#[test]
fn loopback_addresses_need_a_permission_and_redirects_are_not_followed() {
    let (inner, _) = receiver(200);
    let web = start(&inner.url("/s3cret"), &standard("[\"machine.*\"]"), &[]);
    add_machine(&web, 0);
    let refused = eventually(LIMIT, "the address is refused", || {
        Some(state(&web)).filter(|state| state["failures"] != 0)
    });
    let why = refused["last_error"].as_str().unwrap();
    assert!(why.contains("127.0.0.1") && !why.contains("s3cret"), "{why}");
    assert!(inner.requests().is_empty());
    let target = inner.url("/");
    let outer = Server::start(move |_| Reply::status(302).header("Location", &target));
    let web = start(&outer.url("/"), &standard("[\"machine.*\"]"), &[REACH]);
    let error = web.request("POST", "/webhooks/ops/test", &[], b"").expect(502).json();
    assert_eq!(error["detail"], "the webhook ops failed: the receiver responded with 302");
    assert!(inner.requests().is_empty());
}

#[test]
fn plain_text_for_ntfy_and_slack_is_tested_at_once() {
    let (receiver, _) = receiver(200);
    for (format, lines) in [("ntfy", "token = \"tk_abc\""), ("slack", "")] {
        let lines = format!("format = \"{format}\"\nevents = [\"*failed\"]\n{lines}");
        let web = start(&receiver.url(&format!("/{format}")), &lines, &[REACH]);
        add_machine(&web, 0);
        let tested = web.request("POST", "/webhooks/ops/test", &[], b"").expect(200).json();
        assert_eq!(tested, json!({ "status": 200 }));
        web.request("POST", "/webhooks/other/test", &[], b"").expect(404);
    }
    let requests = receiver.requests();
    let mut shown = String::new();
    for request in &requests {
        let body = String::from_utf8_lossy(&request.body);
        writeln!(shown, "{} {body}", request.target).unwrap();
        for name in ["content-type", "title", "priority", "tags", "authorization"] {
            let value = request.header(name).unwrap_or("-");
            writeln!(shown, "  {name}: {value}").unwrap();
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn events_are_exported_as_json_lines_since_a_number_or_a_time() {
    let web = Web::start();
    for number in 0..4 {
        add_machine(&web, number);
    }
    let export = |query: &str| {
        let answer = web.get(&format!("/events/export?{query}")).expect(200);
        assert_eq!(answer.header("content-type"), Some("application/jsonl"));
        let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        answer.text().lines().map(parse).collect::<Vec<_>>()
    };
    let created = export("kind=machine.created");
    let macs: Vec<&str> =
        created.iter().map(|event| event["subject_id"].as_str().unwrap()).collect();
    assert_eq!(macs, [0, 1, 2, 3].map(mac), "oldest first");
    let second = created[1]["id"].as_i64().unwrap();
    assert_eq!(export(&format!("since={second}&kind=machine.created")).len(), 2);
    assert_eq!(export(&format!("since={second}&limit=1")).len(), 1);
    let at = created[0]["ts"].as_str().unwrap();
    assert_eq!(export(&format!("since={at}&kind=machine.created")).len(), 4);
    assert!(export("since=2999-01-01T00:00:00Z").is_empty());
    let listed = web.get(&format!("/events?since={second}")).expect(200).json();
    assert_eq!(listed["events"].as_array().unwrap().len(), 2);
    let error = web.get("/events/export?since=yesterday").expect(422).json();
    assert!(error["detail"].as_str().unwrap().contains("2026-11-24T08:30:00Z"), "{error}");
    let arguments = ["events", "export", "--since", at, "--kind", "machine.created"];
    let output = web.command(&arguments).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    let parsed: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed, created);
}
