//! The audit log, and the streams.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use bty_tests::LIMIT;
use bty_tests::web::Web;
use serde_json::json;

use super::pxe::MAC;

/// A stream of events.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(web: &Web, path: &str) -> Self {
        Self::with(web, path, "")
    }

    /// Opens a stream with an additional header line.
    fn with(web: &Web, path: &str, line: &str) -> Self {
        let mut stream = TcpStream::connect(web.base().trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{line}\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        Self(lines)
    }

    /// Kind and data of the next event; none at the end.
    fn next(&mut self) -> Option<(String, serde_json::Value)> {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line) {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("it goes on, and tells nothing")
                }
                Ok(0) | Err(_) => return None,
                // the last chunk ends the response, but not necessarily the connection
                Ok(_) if line == "0\r\n" => return None,
                Ok(_) => {}
            }
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).unwrap()));
            }
        }
    }
}

#[test]
fn events_are_filtered_paged_and_acknowledged() {
    let web = Web::start();
    for n in 0..7 {
        web.send("PUT", &format!("/machines/0200000000{n:02}"), &json!({})).expect(200);
    }
    web.request("POST", "/catalog/import?source=/gone%25_x", &[], b"").expect(400);
    let list = |query: &str| web.get(&format!("/events?{query}")).expect(200).json();
    let count = |query: &str| list(query)["events"].as_array().unwrap().len();
    assert_eq!(
        (
            count("kind=machine.created"),
            count("subject_id=02:00:00:00:00:03"),
            count("actor=system")
        ),
        (7, 1, 1)
    );
    assert_eq!(
        (
            count("failed=true"),
            count("source_ip=127.0.0.1&kind=machine.created"),
            count("limit=3"),
            count("limit=-5")
        ),
        (1, 7, 3, 1)
    );
    assert_eq!(
        (count("q=GONE%25_"), count("q=gone%25x"), count("q=%25%25")),
        (1, 0, 0),
        "wildcards are text"
    );
    let mut before = String::new();
    let mut seen = Vec::new();
    loop {
        let page = list(&format!("limit=4{before}"));
        let ids: Vec<i64> =
            page["events"].as_array().unwrap().iter().map(|e| e["id"].as_i64().unwrap()).collect();
        let Some(last) = ids.last() else { break };
        before = format!("&before_id={last}");
        seen.extend(ids);
    }
    assert!(seen.is_sorted_by(|a, b| a > b) && seen.len() == count("limit=500"), "{seen:?}");
    let failed = list("failed=1");
    assert_eq!(failed["unacknowledged_failures"], 1);
    let id = failed["events"][0]["id"].as_i64().unwrap();
    web.request("POST", &format!("/events/{id}/ack"), &[], b"").expect(200);
    assert_eq!(list("")["unacknowledged_failures"], 0);
    assert_eq!(count("failed=1&acknowledged=0"), 0);
    web.request("POST", "/events/999999/ack", &[], b"").expect(404);
    web.request("POST", "/events/x/ack", &[], b"").expect(400);
    web.get("/events?failed=perhaps").expect(422);
}

#[test]
fn streams_end_when_their_token_is_revoked() {
    let mut web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    let create = |scope: &str| {
        let output = web.command(&["token", "create", scope, "--scope", scope]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (read, admin) = (create("read"), create("admin"));
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let mut revoked = Stream::with(&web, "/events/stream", &bearer(&read));
    let mut kept = Stream::with(&web, "/events/stream", &bearer(&admin));
    web.headers.push(("Authorization".into(), format!("Bearer {admin}")));
    web.get(&format!("/pxe/{MAC}?boot=1")).expect(200);
    assert_eq!(revoked.next().unwrap().1["kind"], "machine.discovered");
    web.request("DELETE", "/tokens/1", &[], b"").expect(204);
    web.send("PUT", "/machines/020000000001", &json!({})).expect(200);
    while let Some((_, event)) = revoked.next() {
        assert_ne!(event["kind"], "machine.created", "that happened after it was revoked");
    }
    while kept.next().expect("it goes on").1["kind"] != "machine.created" {}
}

#[test]
fn streams_report_events_and_end_with_the_server() {
    let mut web = Web::start();
    let mut all = Stream::open(&web, "/events/stream");
    let mut machines = Stream::open(&web, "/events/machines");
    let mut workers = Stream::open(&web, "/events/workers");
    web.get(&format!("/pxe/{MAC}?boot=1")).expect(200);
    let (name, event) = all.next().unwrap();
    assert_eq!(
        (name.as_str(), &event["kind"], &event["subject_id"]),
        ("event", &json!("machine.discovered"), &json!(MAC))
    );
    let (name, machine) = machines.next().unwrap();
    assert_eq!(
        (name.as_str(), &machine["mac"], &machine["boot_mode"]),
        ("machines-update", &json!(MAC), &json!("bty-inventory"))
    );
    web.send("POST", "/workers/backups", &json!({})).expect(202);
    let mut states = Vec::new();
    while states.last().is_none_or(|state| state != "completed") {
        let (name, change) = workers.next().unwrap();
        assert_eq!((name.as_str(), &change["kind"]), ("worker-state-changed", &json!("backup")));
        states.push(change["status"].as_str().unwrap().to_owned());
    }
    assert_eq!(states, ["running", "completed"]);
    web.end();
    while all.next().is_some() || machines.next().is_some() || workers.next().is_some() {}
    assert!(
        !web.log().contains("connections were still open"),
        "it waits for listeners: {}",
        web.log()
    );
}
