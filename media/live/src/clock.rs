//! Sets the clock from the server. On a machine with an empty battery the clock is far behind, so
//! that certificates are not valid yet.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, Timespec};

const TIMEOUT: Duration = Duration::from_secs(3);
/// The clock may be behind by this much before it is set.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// Sets the clock forward to that of the server if it is behind by more than [`SKEW_MAX`]; never
/// sets it back. Returns a message for the console if the clock was behind.
///
/// The request uses plain HTTP, because TLS needs the right time. A forged answer can only make
/// valid certificates look expired; since the clock never goes back, it cannot make an expired
/// certificate valid.
pub(crate) fn advance_to(server: &str) -> Option<String> {
    let server_time = request_time(server)?;
    let behind =
        server_time.duration_since(SystemTime::now()).ok().filter(|behind| *behind > SKEW_MAX)?;
    let since = server_time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let time = Timespec { tv_sec: i64::try_from(since.as_secs()).ok()?, tv_nsec: 0 };
    let set = rustix::time::clock_settime(ClockId::Realtime, time);
    let seconds = behind.as_secs();
    Some(match set {
        Ok(()) => format!("the clock was {seconds} s behind the server's and has been set"),
        Err(e) => {
            format!("cannot set the clock, which is {seconds} s behind the server's: {e}")
        }
    })
}

/// Reads the `Date` header of the server's answer.
fn request_time(server: &str) -> Option<SystemTime> {
    let (host, port) = plain_http_address(server)?;
    let at = (host.as_str(), port).to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&at, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.write_all(format!("HEAD / HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).ok()?;
    let mut head = Vec::new();
    // an incomplete head may still contain the date
    let _ = stream.take(16 << 10).read_to_end(&mut head);
    parse_date(&String::from_utf8_lossy(&head))
}

/// Host and port for plain HTTP: the port of an `http` URL, or port 80 for an `https` URL.
fn plain_http_address(server: &str) -> Option<(String, u16)> {
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

fn parse_date(head: &str) -> Option<SystemTime> {
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
    fn the_time_is_requested_over_plain_http() {
        let at = |server: &str| plain_http_address(server).unwrap();
        assert_eq!(at("http://10.0.0.1:8080"), ("10.0.0.1".into(), 8080));
        assert_eq!(at("https://bty.lan:8443/x"), ("bty.lan".into(), 80));
        assert_eq!(at("http://[fd77::1]:8080"), ("fd77::1".into(), 8080));
        assert_eq!(at("http://u:p@h"), ("h".into(), 80));
    }

    #[test]
    fn any_status_has_the_time() {
        let head = "HTTP/1.1 404 Not Found\r\nDate: Tue, 24 Nov 2026 18:36:50 GMT\r\n\r\n";
        let time = parse_date(head).unwrap();
        assert_eq!(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_795_545_410);
        assert!(parse_date("HTTP/1.1 200 OK\r\ndate: soon\r\n").is_none());
        assert!(parse_date("").is_none());
    }
}
