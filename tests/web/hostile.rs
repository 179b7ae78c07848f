//! Arbitrary input to every route: the server never fails with a 5xx, and never stores half of a
//! change.

use bty_tests::web::Web;
use serde_json::{Value, json};

use super::pxe::MAC;

/// Method and path template of every operation in the OpenAPI document.
fn operations(web: &Web) -> Vec<(String, String)> {
    let document = web.get("/openapi.json").json();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            operations.push((method.to_uppercase(), path.clone()));
        }
    }
    operations
}

fn is_stream(path: &str) -> bool {
    matches!(path, "/events/stream" | "/events/machines" | "/events/workers")
}

#[test]
fn the_api_documents_exactly_its_paths() {
    let web = Web::start();
    let mut lines: Vec<String> =
        operations(&web).iter().map(|(method, path)| format!("{path} {method}")).collect();
    lines.sort();
    insta::assert_snapshot!("routes", lines.join("\n"));
}

#[test]
fn no_body_and_no_path_causes_an_internal_error() {
    let web = Web::start();
    web.send("PUT", &format!("/machines/{MAC}"), &json!({})).expect(200);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let labels: Vec<String> = (0..10_000).map(|n| format!("label {n}")).collect();
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"null".to_vec(),
        b"{".to_vec(),
        b"[]".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        b"{\"status\":7,\"disks\":\"x\",\"labels\":7,\"source\":7,\
          \"image_url\":[],\"boots\":-1,\"name\":null}"
            .to_vec(),
        b"{\"boots\":1e400}".to_vec(),
        deep.into_bytes(),
        json!({ "labels": labels }).to_string().into_bytes(),
        json!({
            "disks": vec![json!({ "path": "/dev/x" }); 100], "lshw": null,
        })
        .to_string()
        .into_bytes(),
        vec![b'x'; 9 << 20],
    ];
    let parts = [
        "xx",
        MAC,
        "%00",
        "..%2F..%2Fetc%2Fpasswd",
        "%F0%9F%92%A9",
        "1",
        "-1",
        "99999999999999999999",
        "%24%7Bx%7D",
    ];
    for (method, path) in operations(&web).into_iter().filter(|(_, path)| !is_stream(path)) {
        let has_part = path.contains('{');
        for part in parts.iter().take(if has_part { parts.len() } else { 1 }) {
            let concrete = path
                .split('/')
                .map(|s| if s.starts_with('{') { *part } else { s })
                .collect::<Vec<_>>()
                .join("/");
            let tried: Vec<&[u8]> = match method.as_str() {
                "GET" | "DELETE" => vec![b""],
                _ if *part == MAC || !has_part => bodies.iter().map(Vec::as_slice).collect(),
                _ => bodies[..3].iter().map(Vec::as_slice).collect(),
            };
            for body in tried {
                if concrete == "/boot/releases"
                    && method == "POST"
                    && (body.is_empty() || body == b"null")
                {
                    continue; // would ask a server outside
                }
                let answer =
                    web.request(&method, &concrete, &[("Content-Type", "application/json")], body);
                let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
                assert!(
                    answer.status < 500 || answer.status == 502,
                    "{method} {concrete} {shown}: {} {}",
                    answer.status,
                    answer.text()
                );
                if answer.status >= 400 && !concrete.starts_with("/ui") {
                    assert!(
                        answer.json()["detail"].is_string(),
                        "{method} {concrete} {shown}: {}",
                        answer.text()
                    );
                }
            }
        }
    }
    for query in [
        "?limit=x",
        "?before_id=99999999999999999999",
        "?boot=%00%0a",
        "?cycle=%27%22",
        "?q=%F0%28",
        "?boots=-1",
        "?armed=7",
    ] {
        for path in [
            "/events",
            "/machines",
            "/catalog/check",
            &format!("/pxe/{MAC}"),
            &format!("/pxe/{MAC}/plan"),
            "/plans/bty-tui/diff",
        ] {
            let answer = web.get(&format!("{path}{query}"));
            assert!(answer.status < 500, "{path}{query}: {}", answer.text());
        }
    }
    assert!(!web.log().contains("panicked"), "{}", web.log());
    web.get("/healthz").expect(200);
}

#[test]
fn broken_requests_are_refused_and_break_nothing() {
    let web = Web::start();
    let long = "x".repeat(100_000);
    let requests = [
        // blank lines may precede a request: the server waits for the rest
        "\r\n\r\nGET /machines HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\nX: {long}{long}{long}{long}{long}\r\n\
                 Connection: close\r\n\r\n"
        ),
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n".to_owned(),
        "POST /pxe/525400123456/status HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"
            .to_owned(),
        "POST /pxe/525400123456/status HTTP/1.1\r\nHost: x\r\n\
         Content-Length: -1\r\n\r\n"
            .to_owned(),
        "GET /machines HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \u{1}\r\n\
         Connection: close\r\n\r\n"
            .to_owned(),
        "GET /pxe/525400123456 HTTP/1.1\r\nHost: ${x}\r\nX-Forwarded-For: \u{7f}, , ,\r\n\
         Connection: close\r\n\r\n"
            .to_owned(),
    ];
    for request in requests {
        let answer = String::from_utf8_lossy(&web.raw(request.as_bytes())).into_owned();
        assert!(!answer.starts_with("HTTP/1.1 5"), "{request:.80}: {answer:.200}");
    }
    web.get("/healthz").expect(200);
    assert!(!web.log().contains("panicked"), "{}", web.log());
}

#[test]
fn a_refused_row_stores_nothing() {
    let web = Web::start();
    let too_many: Vec<Value> = (0..10_000).map(|n| json!(format!("l{n}"))).collect();
    web.send("PUT", &format!("/machines/{MAC}"), &json!({ "labels": too_many })).expect(422);
    web.get(&format!("/machines/{MAC}")).expect(404);
    web.get(&format!("/pxe/{MAC}?boot=1")).expect(200);
    let before = web.get(&format!("/machines/{MAC}")).text();
    // the token of another boot: a stranger's inventory, whether it can be read or not
    for (disks, status) in [(json!(7), 422), (json!([{ "path": "/dev/sda" }]), 204)] {
        let path = format!("/pxe/{MAC}/inventory?cycle=00");
        web.send("POST", &path, &json!({ "disks": disks })).expect(status);
    }
    assert_eq!(web.get(&format!("/machines/{MAC}")).text(), before);
    web.send(
        "PUT",
        "/settings",
        &json!({ "display.timezone": "UTC", "backup.cadence": "hourly", "no.such": 1 }),
    )
    .expect(422);
    assert!(
        web.get("/events?subject_kind=settings").json()["events"].as_array().unwrap().is_empty()
    );
}
