//! Asking a TFTP server whether it is there: what a machine would see.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::net::UdpSocket;

/// What is asked for.
pub const NAME: &str = "ipxe.efi";

const TIMEOUT: Duration = Duration::from_millis(1500);

const DATA: u16 = 3;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = TftpProbe)]
pub struct Probe {
    /// Who was asked: host and port.
    pub target: String,
    /// Somebody has answered.
    pub is_reachable: bool,
    /// It has the file.
    pub has_file: bool,
    /// One sentence.
    pub detail: String,
}

/// Asks the server at `host` for [`NAME`], and ends the transfer as soon as it is offered.
pub async fn probe(host: &str, port: u16) -> Probe {
    let target = format!("{host}:{port}");
    let answered = tokio::time::timeout(TIMEOUT, ask(&target)).await;
    let (is_reachable, has_file, detail) = match answered {
        Ok(Ok(Ok(()))) => (true, true, format!("{NAME} is offered")),
        Ok(Ok(Err(why))) => (true, false, format!("{NAME} is refused: {why}")),
        Ok(Err(e)) => (false, false, format!("cannot be asked: {e}")),
        Err(_) => (false, false, format!("no answer within {} ms", TIMEOUT.as_millis())),
    };
    Probe { target, is_reachable, has_file, detail }
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
        let Some(answer) = understand(&packet[..len]) else { continue };
        if answer.is_ok() {
            // it has seen enough
            let _ = socket.send_to(b"\x00\x05\x00\x00seen\0", from).await;
        }
        return Ok(answer);
    }
}

fn request() -> Vec<u8> {
    [b"\x00\x01", NAME.as_bytes(), b"\0octet\0tsize\x000\0"].concat()
}

/// The file is offered, or it is refused.
fn understand(packet: &[u8]) -> Option<Result<(), String>> {
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
    fn answers_are_offers_or_refusals() {
        assert_eq!(understand(b"\x00\x03\x00\x01data"), Some(Ok(())));
        assert_eq!(understand(b"\x00\x06tsize\x005\0"), Some(Ok(())));
        assert_eq!(
            understand(b"\x00\x05\x00\x01File not found\0"),
            Some(Err("File not found".into()))
        );
        assert_eq!(understand(b"\x00\x05"), Some(Err(String::new())));
        assert_eq!(understand(b"\x00\x04\x00\x01"), None);
        assert_eq!(understand(b""), None);
    }
}
