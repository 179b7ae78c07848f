//! The clock. Certificates are not valid yet for a machine whose battery is empty; the server's
//! clock is good enough for them.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, Timespec};

const PATIENCE: Duration = Duration::from_secs(3);
/// Less than this is no reason to touch it.
const SKEW: Duration = Duration::from_secs(60);

/// Sets the clock forward to that of the server, if it is behind by more than a minute: it never
/// goes back. Gives what was done.
///
/// The time is asked for without TLS, which needs it: whoever forges the answer can make
/// certificates too old, and none that is too old good.
pub(crate) fn follow(server: &str) -> Option<String> {
    let theirs = ask(server)?;
    let behind = theirs.duration_since(SystemTime::now()).ok().filter(|behind| *behind > SKEW)?;
    let since = theirs.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let time = Timespec { tv_sec: i64::try_from(since.as_secs()).ok()?, tv_nsec: 0 };
    let set = rustix::time::clock_settime(ClockId::Realtime, time);
    let by = behind.as_secs();
    Some(match set {
        Ok(()) => format!("the clock was {by} s behind the server's and has been set"),
        Err(e) => format!("the clock is {by} s behind the server's and cannot be set: {e}"),
    })
}

fn ask(server: &str) -> Option<SystemTime> {
    let (host, port) = address(server)?;
    let at = (host.as_str(), port).to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("HEAD / HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).ok()?;
    let mut head = Vec::new();
    // a head that is not at its end says the time all the same
    let _ = stream.take(16 << 10).read_to_end(&mut head);
    date(&String::from_utf8_lossy(&head))
}

/// Where plain HTTP is spoken: beside HTTPS that is port 80.
fn address(server: &str) -> Option<(String, u16)> {
    let (scheme, rest) = server.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit('@').next()?;
    let (host, port) = match authority
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
    {
        Some((host, port)) => (host, port.parse().ok()),
        None => (authority, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some((host, if scheme == "https" { 80 } else { port.unwrap_or(80) }))
}

fn date(head: &str) -> Option<SystemTime> {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim())
    })?;
    let seconds = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_second();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_asked_for_where_plain_http_is_spoken() {
        let at = |server: &str| address(server).unwrap();
        assert_eq!(at("http://10.0.0.1:8080"), ("10.0.0.1".into(), 8080));
        assert_eq!(at("https://bty.lan:8443/x"), ("bty.lan".into(), 80));
        assert_eq!(at("http://[fd77::1]:8080"), ("fd77::1".into(), 8080));
        assert_eq!(at("http://u:p@h"), ("h".into(), 80));
    }

    #[test]
    fn answers_of_any_server_have_the_time() {
        let time =
            date("HTTP/1.1 404 Not Found\r\nDate: Tue, 24 Nov 2026 18:36:50 GMT\r\n\r\n").unwrap();
        assert_eq!(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_795_545_410);
        assert!(date("HTTP/1.1 200 OK\r\ndate: soon\r\n").is_none() && date("").is_none());
    }
}
