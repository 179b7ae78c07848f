//! A TFTP client (RFC 1350, 2347, 2348, 7440) that simulates packet loss in both directions.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// A file to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// Address of the server.
    pub server: SocketAddr,
    /// Name of the file.
    pub name: &'a str,
    /// Block size, in bytes.
    pub block: u16,
    /// Window size, in blocks.
    pub window: u16,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Seed of the random numbers that select lost packets.
    pub seed: u64,
}

/// Timeout after which the client repeats its last packet.
const PATIENCE: Duration = Duration::from_secs(1);
/// Number of repetitions before the client gives up.
const REPEATS_MAX: u32 = 30;

struct Line {
    socket: UdpSocket,
    loss: f64,
    state: u64,
    said: Vec<u8>,
    to: SocketAddr,
    repeats: u32,
}

impl Line {
    fn is_lost(&mut self) -> bool {
        if self.loss == 0.0 {
            return false;
        }
        // xorshift: the numbers only have to be the same in every run
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 11) as f64 / (1_u64 << 53) as f64) < self.loss
    }

    fn say(&mut self, packet: Vec<u8>) -> io::Result<()> {
        self.said = packet;
        self.repeat()
    }

    fn repeat(&mut self) -> io::Result<()> {
        if !self.is_lost() {
            self.socket.send_to(&self.said, self.to)?;
        }
        Ok(())
    }

    /// Receives the next packet that is not lost; repeats the last packet meanwhile.
    fn hear<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        loop {
            match self.socket.recv_from(buffer) {
                Ok(_) if self.is_lost() => {}
                Ok((len, from)) => {
                    (self.to, self.repeats) = (from, 0);
                    return Ok(&buffer[..len]);
                }
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
                        && self.repeats < REPEATS_MAX =>
                {
                    self.repeats += 1;
                    self.repeat()?;
                }
                Err(e) => return Err(e),
            }
        }
    }
}

impl Download<'_> {
    /// Fetches the file.
    ///
    /// # Errors
    /// If the server sends an error, or stops answering.
    pub fn run(&self) -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let state = self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut line =
            Line { socket, loss: self.loss, state, said: Vec::new(), to: self.server, repeats: 0 };
        let mut request = [
            b"\x00\x01",
            self.name.as_bytes(),
            b"\0octet\0blksize\0",
            self.block.to_string().as_bytes(),
            b"\0",
        ]
        .concat();
        if self.window > 1 {
            request.extend_from_slice(format!("windowsize\0{}\0", self.window).as_bytes());
        }
        line.say(request)?;
        let (mut bytes, mut last, mut since) = (Vec::new(), 0_u16, 0);
        let (mut block, mut window) = (512, 1);
        let mut buffer = vec![0; 65536];
        loop {
            let packet = line.hear(&mut buffer)?;
            let number = u16::from_be_bytes([packet[2], packet[3]]);
            match packet[1] {
                6 => {
                    block = option(packet, "blksize").unwrap_or(512);
                    window = option(packet, "windowsize").unwrap_or(1);
                    line.say(ack(0))?;
                }
                3 if number == last.wrapping_add(1) => {
                    let is_end = packet.len() < block + 4;
                    bytes.extend_from_slice(&packet[4..]);
                    last = number;
                    since += 1;
                    if since >= window || is_end {
                        since = 0;
                        line.say(ack(last))?;
                    }
                    if is_end {
                        return Ok(bytes);
                    }
                }
                // the acknowledgement of this block was lost
                3 if number == last => line.repeat()?,
                // a block is missing: acknowledge the last one before the gap, once per window
                3 if number.wrapping_sub(last) < 0x8000 => {
                    since = 0;
                    line.say(ack(last))?;
                    skip(&mut line, &mut buffer)?;
                }
                3 => {}
                5 => {
                    return Err(io::Error::other(
                        String::from_utf8_lossy(&packet[4..]).into_owned(),
                    ));
                }
                _ => {}
            }
        }
    }
}

/// Discards the rest of a window in which a block is missing.
fn skip(line: &mut Line, buffer: &mut [u8]) -> io::Result<()> {
    line.socket.set_nonblocking(true)?;
    while line.socket.recv_from(buffer).is_ok() {}
    line.socket.set_nonblocking(false)
}

fn ack(number: u16) -> Vec<u8> {
    [[0, 4], number.to_be_bytes()].concat()
}

/// The value of an option that the server has acknowledged.
fn option(packet: &[u8], name: &str) -> Option<usize> {
    let texts: Vec<String> = packet[2..]
        .split(|byte| *byte == 0)
        .map(|t| String::from_utf8_lossy(t).to_lowercase())
        .collect();
    let at = texts.iter().position(|text| text == name)?;
    texts.get(at + 1)?.parse().ok()
}
