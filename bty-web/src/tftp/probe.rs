//! Probes a TFTP server as a machine would.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::net::UdpSocket;

/// Name of the requested file.
pub const NAME: &str = "ipxe.efi";

const TIMEOUT: Duration = Duration::from_millis(1500);

const DATA: u16 = 3;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TftpProbe {
    /// Host and port of the server.
    pub target: String,
    /// True if the server responded.
    pub is_reachable: bool,
    /// True if the server offers the file.
    pub has_file: bool,
    /// The result in words.
    pub detail: String,
}

/// Requests the boot program `ipxe.efi` from the server at `host`, and aborts the transfer once the
/// server offers the file.
pub async fn probe(host: &str, port: u16) -> TftpProbe {
    let target = format!("{host}:{port}");
    let answered = tokio::time::timeout(TIMEOUT, ask(&target)).await;
    let (is_reachable, has_file, detail) = match answered {
        Ok(Ok(Ok(()))) => (true, true, format!("{NAME} found")),
        Ok(Ok(Err(why))) => (true, false, format!("{NAME} refused: {why}")),
        Ok(Err(e)) => (false, false, format!("cannot reach the server: {e}")),
        Err(_) => (false, false, format!("no answer within {} ms", TIMEOUT.as_millis())),
    };
    TftpProbe { target, is_reachable, has_file, detail }
}

async fn ask(target: &str) -> std::io::Result<Result<(), String>> {
    let to: SocketAddr = tokio::net::lookup_host(target)
        .await?
        .next()
        .ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let local: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(local).await?;
    socket.send_to(&request(), to).await?;
    let mut packet = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut packet).await?;
        let Some(answer) = parse(&packet[..len]) else { continue };
        if answer.is_ok() {
            // the response is all that is needed
            let _ = socket.send_to(b"\x00\x05\x00\x00seen\0", from).await;
        }
        return Ok(answer);
    }
}

fn request() -> Vec<u8> {
    [b"\x00\x01", NAME.as_bytes(), b"\0octet\0tsize\x000\0"].concat()
}

/// Returns whether the server offers the file, or its error message; `None` for other packets.
fn parse(packet: &[u8]) -> Option<Result<(), String>> {
    let code = u16::from_be_bytes(packet.get(..2)?.try_into().ok()?);
    match code {
        DATA | OACK => Some(Ok(())),
        ERROR => {
            let text = packet
                .get(4..)
                .unwrap_or_default()
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default();
            Some(Err(String::from_utf8_lossy(text)
                .chars()
                .filter(|c| !c.is_control())
                .take(80)
                .collect()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_offers_or_errors() {
        assert_eq!(parse(b"\x00\x03\x00\x01data"), Some(Ok(())));
        assert_eq!(parse(b"\x00\x06tsize\x005\0"), Some(Ok(())));
        assert_eq!(parse(b"\x00\x05\x00\x01File not found\0"), Some(Err("File not found".into())));
        assert_eq!(parse(b"\x00\x05"), Some(Err(String::new())));
        assert_eq!(parse(b"\x00\x04\x00\x01"), None);
        assert_eq!(parse(b""), None);
    }
}
