//! The server in another program: its value, its routes in an application, and its end.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bty_web::{Config, ErrorKind, Server, ServerBuilder};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const MACHINE: &str = "/pxe/52-54-00-00-00-01";

/// Starts the built command as a worker. `CARGO_BIN_EXE_bty-web` is no name for a shell, so the
/// wrapper around the compiler loses it.
fn worker() -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().with_file_name("bty-web");
    let mut command = Command::new(program);
    command.arg("script-worker");
    command
}

/// A server with its state in `dir`, whose operators need no password.
fn builder(dir: &Path) -> ServerBuilder {
    let values = [("paths.state_dir", dir.to_str().unwrap()), ("server.host", "127.0.0.1")];
    Server::builder().config(Config::from_values(values).unwrap()).worker(worker)
}

async fn free_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Sends a request without a body, and returns the whole response.
async fn fetch(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

/// Returns the value of a header.
fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let line = |line: &'a str| line.strip_prefix(name)?.strip_prefix(": ");
    response.lines().find_map(line)
}

#[tokio::test]
async fn a_server_below_a_path_decides_with_addresses_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = builder(dir.path()).base_path("/bty").listener(free_port().await).start();
    let server = server.await.unwrap();
    let address = server.address().unwrap();
    let contact = fetch(address, &format!("/bty{MACHINE}")).await;
    assert!(contact.contains(&format!("http://{address}/bty")), "{contact}");
    assert!(contact.contains("bty.cycle="), "the plan was decided: {contact}");
    for (path, to) in [("/bty/", "/bty/ui/login"), ("/bty/ui/login", "/bty/ui/dashboard")] {
        assert_eq!(header(&fetch(address, path).await, "location"), Some(to), "{path}");
    }
    server.stop().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nothing listens");
}

#[tokio::test]
async fn a_mounted_server_leaves_other_paths_to_its_application() {
    let dir = tempfile::tempdir().unwrap();
    let bty = builder(dir.path()).base_path("/tools/bty").mount().await.unwrap();
    assert_eq!(bty.address(), None);
    let application = Router::new().route("/ui/login", get(|| async { "mine" }));
    let application = application.merge(bty.router());
    let listener = free_port().await;
    let address = listener.local_addr().unwrap();
    let stop = bty.stop_handle();
    let (told, asked) = tokio::sync::oneshot::channel::<()>();
    let serving =
        axum::serve(listener, application.into_make_service_with_connect_info::<SocketAddr>())
            .with_graceful_shutdown(async move {
                let _ = asked.await;
                stop.stop();
            });
    let serving = tokio::spawn(serving.into_future());
    assert!(fetch(address, "/ui/login").await.ends_with("mine"));
    assert!(fetch(address, "/ui/dashboard").await.starts_with("HTTP/1.1 404"));
    assert!(fetch(address, "/tools/btyx").await.starts_with("HTTP/1.1 404"));
    let page = fetch(address, "/tools/bty/ui/dashboard").await;
    assert!(page.contains("\"/tools/bty/static/bty.css"), "{page}");
    assert_eq!(
        header(&fetch(address, "/tools/bty").await, "location"),
        Some("/tools/bty/ui/login")
    );
    let contact = fetch(address, &format!("/tools/bty{MACHINE}")).await;
    assert!(contact.contains(&format!("http://{address}/tools/bty")), "{contact}");
    // its metrics name its own routes
    let metrics = fetch(address, "/tools/bty/metrics").await;
    assert!(metrics.contains("\"/pxe/{mac}\""), "{metrics}");
    // a page that follows events would keep the application open
    let mut live = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /tools/bty/ui/live HTTP/1.1\r\nHost: {address}\r\n\r\n");
    live.write_all(request.as_bytes()).await.unwrap();
    assert!(live.read(&mut [0; 64]).await.unwrap() > 0);
    told.send(()).unwrap();
    serving.await.unwrap().unwrap();
    bty.stop().await.unwrap();
}

#[tokio::test]
async fn a_stopping_server_answers_the_request_in_progress_and_closes_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let server = builder(dir.path()).listener(free_port().await).start().await.unwrap();
    let address = server.address().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = json!({ "display.timezone": "Europe/Berlin" }).to_string();
    let head = format!(
        "PUT /settings HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.stop_handle().stop();
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    server.stop().await.unwrap();
    assert!(!dir.path().join("state.db-wal").exists(), "the database is a single file");
    let again = builder(dir.path()).listener(free_port().await).start().await.unwrap();
    let settings = fetch(again.address().unwrap(), "/settings").await;
    assert!(settings.contains("Europe/Berlin"), "{settings}");
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_dropped_server_stops_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = builder(dir.path()).listener(free_port().await).start().await.unwrap();
    let address = server.address().unwrap();
    drop(server);
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_server_that_can_run_no_plan_refuses_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let values = [("paths.state_dir", dir.path().to_str().unwrap()), ("server.host", "127.0.0.1")];
    let config = Config::from_values(values).unwrap();
    let start = async |builder: ServerBuilder| {
        let started = builder.config(config.clone()).listener(free_port().await).start().await;
        started.err().unwrap()
    };
    let missing = start(Server::builder()).await;
    assert!(missing.to_string().contains("ServerBuilder::worker"), "{missing}");
    let none = start(Server::builder().worker(|| Command::new("/no/such/program"))).await;
    assert!(
        none.to_string().contains("cannot run plans: starting the script worker /no"),
        "{none}"
    );
    let wrong = start(Server::builder().worker(|| Command::new("false"))).await;
    assert!(wrong.to_string().contains("its process ended with exit code 1"), "{wrong}");
    for error in [missing, none, wrong] {
        assert_eq!(error.kind, ErrorKind::Invalid);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

#[tokio::test]
async fn a_server_that_others_can_reach_needs_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let values = [("paths.state_dir", dir.path().to_str().unwrap())];
    let builder = Server::builder().config(Config::from_values(values).unwrap()).worker(worker);
    let error = builder.mount().await.err().unwrap();
    assert!(error.to_string().contains("admin.password"), "{error}");
}
