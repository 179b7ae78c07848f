//! Limits for unauthenticated clients: connections, memory, rows in the database.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually};

use super::pxe::MAC;

fn connect(web: &Web, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", web.port())).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

fn connect_from(address: [u8; 4], web: &Web) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((address, 0))).unwrap();
    connect(&socket, &SocketAddr::from(([127, 0, 0, 1], web.port()))).unwrap();
    socket.into()
}

/// Reads until the server closes the connection.
fn to_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("the server keeps the connection")
        }
        _ => String::from_utf8_lossy(&text).into_owned(),
    }
}

fn refused(web: &Web, reason: &str) -> u64 {
    let metrics = web.get("/metrics").expect(200).text();
    let name = format!("bty_refused_total{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_default()
}

const HALF_HEAD: &str = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ";

#[test]
fn connections_with_incomplete_request_heads_are_closed() {
    let web = Web::with(&[("BTY_LIMITS_HEAD_S", "1")]);
    let mut halves: Vec<_> = (0..20).map(|_| connect(&web, HALF_HEAD)).collect();
    let mut silent = connect(&web, "");
    // single bytes do not extend the deadline
    let mut slow = connect(&web, HALF_HEAD);
    let begun = Instant::now();
    while slow.write_all(b"x").is_ok() {
        assert!(begun.elapsed() < LIMIT, "the server keeps the connection");
        std::thread::sleep(Duration::from_millis(100));
    }
    halves.iter_mut().chain([&mut silent]).for_each(|half| drop(to_end(half)));
    web.get("/healthz").expect(200);
}

#[test]
fn a_cache_host_closes_connections_with_incomplete_request_heads() {
    let web = Web::cache(&[], &[("BTY_LIMITS_HEAD_S", "1"), ("BTY_ADMIN_OPEN", "1")]);
    let mut slow = connect(&web, "GET /b/x/y HTTP/1.1\r\nX: ");
    let begun = Instant::now();
    while slow.write_all(b"x").is_ok() {
        assert!(begun.elapsed() < LIMIT, "the server keeps the connection");
        std::thread::sleep(Duration::from_millis(100));
    }
    to_end(&mut slow);
}

#[test]
fn a_client_with_too_many_connections_loses_its_own() {
    let web =
        Web::with(&[("BTY_LIMITS_CONNECTIONS", "40"), ("BTY_LIMITS_CONNECTIONS_PER_ADDRESS", "8")]);
    // incomplete requests from many addresses, until all connections are in use
    let mut flood = Vec::new();
    for address in 1..=20_u8 {
        for _ in 0..10 {
            let mut stream = connect_from([127, 0, 1, address], &web);
            // the server may have closed it already
            let _ = stream.write_all(HALF_HEAD.as_bytes());
            flood.push(stream);
        }
    }
    assert!(
        web.get(&format!("/pxe/{MAC}")).expect(200).text().contains("#!ipxe"),
        "a machine is served meanwhile"
    );
    assert!(refused(&web, "connections_per_address") >= 10, "{}", web.get("/metrics").text());
    assert!(refused(&web, "connections") >= 20);
}

#[test]
fn unauthenticated_request_bodies_share_limited_memory() {
    let web = Web::with(&[("BTY_LIMITS_BODY_BYTES", "1M")]);
    web.get(&format!("/pxe/{MAC}")).expect(200);
    let half = "x".repeat(200 << 10);
    let head = |len: usize| {
        format!(
            "POST /pxe/{MAC}/inventory HTTP/1.1\r\nHost: 127.0.0.1\r\n\
             Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
        )
    };
    let mut halves: Vec<_> = (0..6).map(|_| connect(&web, &(head(4 << 20) + &half))).collect();
    // one of them exceeds the limit
    eventually(LIMIT, "one is refused", || (refused(&web, "body_memory") >= 1).then_some(()));
    let answers: Vec<String> = halves
        .iter_mut()
        .map(|half| {
            // fails for the refused one, which is closed already
            let _ = half.shutdown(std::net::Shutdown::Write);
            to_end(half)
        })
        .collect();
    assert!(
        answers
            .iter()
            .any(|answer| answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 5")),
        "{answers:?}"
    );
    // closed connections release their memory
    web.send("POST", &format!("/pxe/{MAC}/inventory"), &serde_json::json!({ "disks": [] }))
        .expect(204);
}

#[test]
fn slow_request_bodies_are_refused() {
    let web = Web::with(&[("BTY_LIMITS_BODY_RATE", "1M")]);
    web.get(&format!("/pxe/{MAC}")).expect(200);
    let head = format!(
        "POST /pxe/{MAC}/inventory HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
    );
    let mut slow = connect(&web, &head);
    let answer = to_end(&mut slow);
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("slower than 1048576 bytes/s"),
        "{answer}"
    );
    assert_eq!(refused(&web, "slow_body"), 1);
}

#[test]
fn unknown_machines_are_limited_and_assigned_ones_stay() {
    let web = Web::with(&[
        ("BTY_LIMITS_UNASSIGNED_MACHINES", "50"),
        ("BTY_LIMITS_NEW_MACHINES_PER_MINUTE", "200"),
    ]);
    web.send("PUT", &format!("/machines/{MAC}"), &serde_json::json!({ "labels": ["lab"] }))
        .expect(200);
    let mut scripts = Vec::new();
    for n in 0..300_u16 {
        let [high, low] = n.to_be_bytes();
        scripts.push(web.get(&format!("/pxe/02-00-00-01-{high:02x}-{low:02x}")).expect(200).text());
    }
    assert!(scripts[0].contains("#!ipxe"));
    assert!(
        scripts[299].contains("too many unknown machines") && scripts[299].contains("sanboot"),
        "{}",
        scripts[299]
    );
    let machines = web.get("/machines?limit=500").expect(200).json();
    let machines = machines["machines"].as_array().or(machines.as_array()).unwrap().clone();
    assert_eq!(machines.len(), 51);
    assert!(
        machines
            .iter()
            .any(|machine| machine["mac"].as_str().unwrap().replace(':', "-")
                == MAC.replace(':', "-"))
    );
    assert_eq!((refused(&web, "new_machines"), refused(&web, "unassigned_machines")), (100, 150));
    let events = web.get("/events?kind=machine.discovered&limit=500").expect(200).json();
    let events = events["events"].as_array().unwrap().len();
    assert_eq!(events, 50);
}

#[test]
fn an_unassigned_machine_stores_little() {
    let web = Web::with(&[("BTY_LIMITS_UNASSIGNED_BYTES", "1K")]);
    let hardware = serde_json::json!({ "disks": [], "lshw": { "id": "x".repeat(4000) } });
    let (inventory, lshw) = (format!("/pxe/{MAC}/inventory"), format!("/machines/{MAC}/lshw.json"));
    web.get(&format!("/pxe/{MAC}")).expect(200);
    web.send("POST", &inventory, &hardware).expect(204);
    web.get(&lshw).expect(404);
    assert_eq!(refused(&web, "unassigned_bytes"), 1);
    web.send("PUT", &format!("/machines/{MAC}"), &serde_json::json!({ "labels": ["lab"] }))
        .expect(200);
    web.send("POST", &inventory, &hardware).expect(204);
    web.get(&lshw).expect(200);
}

#[test]
fn old_events_are_deleted_if_configured() {
    let mut web = Web::with(&[]);
    for n in 0..8 {
        web.send("PUT", &format!("/machines/02-00-00-00-00-0{n}"), &serde_json::json!({}))
            .expect(200);
    }
    std::fs::write(web.state().join("bty.toml"), "[limits]\nevents = 5\n").unwrap();
    web.restart();
    eventually(LIMIT, "the surplus is deleted", || {
        let events = web.get("/events?limit=500").expect(200).json();
        (events["events"].as_array().unwrap().len() <= 5).then_some(())
    });
    assert_eq!(
        web.get("/machines").expect(200).json().as_array().unwrap().len(),
        8,
        "and no machine"
    );
}
