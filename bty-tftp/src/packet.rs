//! Parses the packets of clients, and builds the packets of the server.
//!
//! ```text
//! read, write   opcode 1, 2 | name 0 | mode 0 | option 0 | value 0 | …
//! DATA          opcode 3 | block u16 | bytes, fewer than a block at the end
//! ACK           opcode 4 | block u16
//! ERROR         opcode 5 | code u16 | message 0
//! OACK          opcode 6 | option 0 | value 0 | …                             all big-endian
//! ```

const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// Length of the opcode and the number of a block.
pub(crate) const DATA_HEADER_BYTES: usize = 4;

/// Size of a block unless the client requests another.
pub(crate) const BLOCK_BYTES: u16 = 512;

/// Why a request is refused, as the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The file does not exist, code 1.
    FileNotFound,
    /// The client may not have it, code 2.
    PermissionDenied,
    /// Another reason, code 0 with this message.
    Other(String),
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// To write, which the server refuses.
    pub(crate) is_write: bool,
    pub(crate) name: String,
    pub(crate) options: RequestOptions,
}

/// The options of a request or an OACK. `None` for those that are missing or out of range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestOptions {
    /// RFC 2348, 8 to 65464 bytes.
    pub(crate) blksize: Option<u16>,
    /// RFC 2349, 1 to 255 seconds.
    pub(crate) timeout: Option<u8>,
    /// RFC 2349, in bytes; 0 in a request.
    pub(crate) tsize: Option<u64>,
    /// RFC 7440, in blocks, at least 1.
    pub(crate) windowsize: Option<u16>,
}

/// What a client sends during a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// All blocks up to this one have arrived.
    Ack(u16),
    /// The client ends the transfer.
    Error,
}

impl Request {
    /// `None` for anything but a well-formed request.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let (opcode, rest) = split_u16(packet)?;
        let is_write = match opcode {
            READ => false,
            WRITE => true,
            _ => return None,
        };
        let (name, rest) = split_text(rest)?;
        let (mode, rest) = split_text(rest)?;
        if !["netascii", "octet", "mail"].iter().any(|known| mode.eq_ignore_ascii_case(known)) {
            return None;
        }
        Some(Self { is_write, name: name.to_owned(), options: RequestOptions::parse(rest)? })
    }
}

impl RequestOptions {
    fn parse(mut rest: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        while !rest.is_empty() {
            let (name, after) = split_text(rest)?;
            let (value, after) = split_text(after)?;
            rest = after;
            match name.to_ascii_lowercase().as_str() {
                "blksize" => set(&mut options.blksize, value, |n| (8..=65464).contains(n)),
                "timeout" => set(&mut options.timeout, value, |n| *n > 0),
                "tsize" => set(&mut options.tsize, value, |_| true),
                "windowsize" => set(&mut options.windowsize, value, |n| *n > 0),
                _ => {}
            }
        }
        Some(options)
    }

    /// The OACK with these options; `None` without any.
    pub(crate) fn acknowledgment(&self) -> Option<Vec<u8>> {
        if *self == Self::default() {
            return None;
        }
        let mut packet = OACK.to_be_bytes().to_vec();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                packet.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
            }
        };
        add("blksize", self.blksize.map(|n| n.to_string()));
        add("timeout", self.timeout.map(|n| n.to_string()));
        add("tsize", self.tsize.map(|n| n.to_string()));
        add("windowsize", self.windowsize.map(|n| n.to_string()));
        Some(packet)
    }
}

/// Sets `option` to a value in its range; ignores any other.
fn set<T: std::str::FromStr>(option: &mut Option<T>, value: &str, is_valid: impl Fn(&T) -> bool) {
    if let Some(number) = value.parse().ok().filter(is_valid) {
        *option = Some(number);
    }
}

impl Reply {
    /// `None` for packets that mean nothing during a transfer.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        match split_u16(packet)? {
            (ACK, block) if block.len() == 2 => split_u16(block).map(|(block, _)| Self::Ack(block)),
            (ERROR, _) => Some(Self::Error),
            _ => None,
        }
    }
}

impl Refusal {
    pub(crate) fn to_packet(&self) -> Vec<u8> {
        let (code, message) = match self {
            Self::Other(message) => (0_u16, message.as_str()),
            Self::FileNotFound => (1, "File not found"),
            Self::PermissionDenied => (2, "Permission denied"),
        };
        [&ERROR.to_be_bytes()[..], &code.to_be_bytes(), message.as_bytes(), b"\0"].concat()
    }
}

/// A DATA packet whose block is still zeros.
pub(crate) fn empty_data(block: u16, block_bytes: usize) -> Vec<u8> {
    let mut packet = vec![0; DATA_HEADER_BYTES + block_bytes];
    packet[..2].copy_from_slice(&DATA.to_be_bytes());
    packet[2..4].copy_from_slice(&block.to_be_bytes());
    packet
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// Splits after the first 0.
fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn options_out_of_range_are_ignored() {
        let parse = |options: &str| {
            Request::parse(format!("\0\x01a\0OCTET\0{options}").as_bytes()).map(|r| r.options)
        };
        let all = RequestOptions {
            blksize: Some(1468),
            timeout: Some(3),
            tsize: Some(0),
            windowsize: Some(8),
        };
        assert_eq!(
            parse("blksize\x001468\0TSize\x000\0windowsize\x008\0timeout\x003\0"),
            Some(all)
        );
        for ignored in ["blksize\x007\0", "blksize\x0065465\0", "timeout\x000\0", "windowsize\0x\0"]
        {
            assert_eq!(parse(ignored), Some(RequestOptions::default()), "{ignored:?}");
        }
        for malformed in ["blksize", "blksize\0", "blksize\08"] {
            assert_eq!(parse(malformed), None, "{malformed:?}");
        }
    }

    #[test]
    fn only_whole_acknowledgments_and_errors_are_replies() {
        assert_eq!(Reply::parse(b"\0\x04\x01\x02"), Some(Reply::Ack(0x102)));
        assert_eq!(Reply::parse(b"\0\x05"), Some(Reply::Error));
        for nothing in [&b""[..], b"\0", b"\0\x04", b"\0\x04\0", b"\0\x04\0\0\0", b"\0\x03\0\0"] {
            assert_eq!(Reply::parse(nothing), None, "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn no_packet_panics(
            packet in proptest::collection::vec(any::<u8>(), 0..64),
            opcode in 0..7u8,
        ) {
            for packet in [packet.clone(), [&[0, opcode][..], &packet].concat()] {
                let _ = (Request::parse(&packet), Reply::parse(&packet));
            }
        }

        #[test]
        fn acknowledged_options_are_read_back(
            blksize in proptest::option::of(8..=65464_u16),
            timeout in proptest::option::of(1..=255_u8),
            tsize in any::<Option<u64>>(),
            windowsize in proptest::option::of(1..=u16::MAX),
        ) {
            let options = RequestOptions { blksize, timeout, tsize, windowsize };
            match options.acknowledgment() {
                Some(packet) => prop_assert_eq!(RequestOptions::parse(&packet[2..]), Some(options)),
                None => prop_assert_eq!(options, RequestOptions::default()),
            }
        }
    }
}
