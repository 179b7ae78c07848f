//! Load for the benchmarks of delivery: many clients fetch one file at once. Prints the results as
//! JSON.
//!
//! ```text
//! load http ADDRESS:PORT PATH CLIENTS ROUNDS
//! load tftp ADDRESS:PORT NAME CLIENTS BLOCK WINDOW LOSS
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bty_tests::tftp::Download;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let server = |text: &str| text.parse::<SocketAddr>().expect("an address and a port");
    let results = match words.as_slice() {
        ["http", to, path, clients, rounds] => {
            at_once(number(clients), |_| (0..number(rounds)).map(|_| fetch(server(to), path)).sum())
        }
        ["tftp", to, name, clients, block, window, loss] => at_once(number(clients), |client| {
            let (block, window) = (number(block) as u16, number(window) as u16);
            let loss = loss.parse().expect("a share");
            let download =
                Download { server: server(to), name, block, window, loss, seed: client as u64 };
            download.run().map_or(0, |bytes| bytes.len() as u64)
        }),
        _ => panic!("see the head of this file"),
    };
    let mut seconds: Vec<f64> = results.iter().map(|(_, took)| took.as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    let bytes: u64 = results.iter().map(|(bytes, _)| bytes).sum();
    let failed = results.iter().filter(|(bytes, _)| *bytes == 0).count();
    println!(
        "{{\"bytes\":{bytes},\"failed\":{failed},\"first_s\":{},\"median_s\":{},\"last_s\":{}}}",
        seconds[0],
        seconds[seconds.len() / 2],
        seconds[seconds.len() - 1]
    );
}

/// Runs `one` for each client at once. Returns the bytes that each received, and the time since the
/// common start.
fn at_once(clients: usize, one: impl Fn(usize) -> u64 + Sync) -> Vec<(u64, Duration)> {
    let (one, begun) = (&one, Instant::now());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| scope.spawn(move || (one(client), begun.elapsed())))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    })
}

/// Fetches `path` and returns the length of the body; 0 if it is incomplete.
fn fetch(server: SocketAddr, path: &str) -> u64 {
    let mut stream = TcpStream::connect(server).expect("the server listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        .expect("it takes a request");
    let mut buffer = vec![0; 256 << 10];
    let (mut head, mut body) = (Vec::new(), 0);
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if body > 0 {
            body += len as u64;
            continue;
        }
        head.extend_from_slice(&buffer[..len]);
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            body = (head.len() - end - 4) as u64;
            head.truncate(end);
            head.make_ascii_lowercase();
            if body == 0 {
                // the head is complete; the body follows
                let len = stream.read(&mut buffer).unwrap_or_default();
                body = len as u64;
            }
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let promised =
        text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<u64>().ok());
    if promised == Some(body) { body } else { 0 }
}
