//! The SMBIOS table, as far as the inventory needs it: memory modules and sockets.
//!
//! ```text
//! structure: 0 type | 1 length of the formatted area, with these four bytes | 2..4 handle, little-endian | …
//!            then its strings, each with a NUL, and one more NUL; two NULs when there are none
//! type 17:   0c..0e size (MiB; bit 15: KiB; 7fff: see 1c) | 10 locator | 12 type | 13..15 type detail
//!            15..17 speed (MT/s) | 17 manufacturer | 18 serial | 1a part | 1c..20 extended size (MiB)
//! type 4:    04 socket | 07 manufacturer | 10 version | 14..16 max speed | 16..18 current speed (MHz)
//! ```
//!
//! DMTF DSP0134, version 3.7, sections 6.1, 7.5 and 7.18. The bytes come from firmware: nothing in them is believed without a look.

/// A table with more structures is cut.
const STRUCTURES_MAX: usize = 4096;
/// Longer strings are cut.
const STRING_MAX: usize = 128;

/// A structure of the table.
#[derive(Clone, Copy, Debug)]
struct Structure<'a> {
    kind: u8,
    formatted: &'a [u8],
    strings: &'a [u8],
}

/// A memory module, or an empty slot for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryModule {
    /// 0 for an empty slot.
    pub(crate) size_bytes: u64,
    pub(crate) slot: Option<String>,
    /// `DDR4` …
    pub(crate) kind: Option<&'static str>,
    /// In MT/s.
    pub(crate) speed: Option<u16>,
    pub(crate) vendor: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) product: Option<String>,
}

/// A socket with a processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) slot: Option<String>,
    pub(crate) vendor: Option<String>,
    pub(crate) version: Option<String>,
    /// In MHz.
    pub(crate) max_speed: Option<u16>,
    /// In MHz.
    pub(crate) speed: Option<u16>,
}

/// What the table tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Smbios {
    pub(crate) memory: Vec<MemoryModule>,
    pub(crate) sockets: Vec<Socket>,
}

impl Smbios {
    /// Reads a table; what is cut or odd is left out.
    pub(crate) fn parse(table: &[u8]) -> Self {
        let mut found = Self::default();
        for structure in structures(table) {
            match structure.kind {
                4 => found.sockets.push(socket(&structure)),
                17 => found.memory.extend(module(&structure)),
                _ => {}
            }
        }
        found
    }
}

fn structures(mut table: &[u8]) -> Vec<Structure<'_>> {
    const END_OF_TABLE: u8 = 127;
    let mut all = Vec::new();
    while all.len() < STRUCTURES_MAX {
        let (Some(&kind), Some(&len)) = (table.first(), table.get(1)) else { break };
        let len = usize::from(len);
        if len < 4 || kind == END_OF_TABLE {
            break;
        }
        let Some((formatted, rest)) = table.split_at_checked(len) else { break };
        let Some(end) = rest.windows(2).position(|pair| pair == [0, 0]) else { break };
        all.push(Structure { kind, formatted, strings: &rest[..end] });
        table = &rest[end + 2..];
    }
    all
}

impl Structure<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.formatted.get(at).copied()
    }

    fn word(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte(at)?, self.byte(at + 1)?]))
    }

    fn double_word(&self, at: usize) -> Option<u32> {
        Some(u32::from(self.word(at)?) | u32::from(self.word(at + 2)?) << 16)
    }

    /// The string whose number is at `at`; numbers count from 1.
    fn string(&self, at: usize) -> Option<String> {
        let number = usize::from(self.byte(at)?).checked_sub(1)?;
        let bytes = self.strings.split(|&byte| byte == 0).nth(number)?;
        let text: String =
            String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(STRING_MAX).collect();
        let text = text.trim();
        (!text.is_empty() && !super::is_placeholder(text)).then(|| text.to_owned())
    }

    fn speed(&self, at: usize) -> Option<u16> {
        self.word(at).filter(|&speed| speed != 0 && speed != 0xffff)
    }
}

fn socket(structure: &Structure<'_>) -> Socket {
    Socket {
        slot: structure.string(0x04),
        vendor: structure.string(0x07),
        version: structure.string(0x10),
        max_speed: structure.speed(0x14),
        speed: structure.speed(0x16),
    }
}

/// `None` when the size is not known.
fn module(structure: &Structure<'_>) -> Option<MemoryModule> {
    let size_bytes = match structure.word(0x0c)? {
        0xffff => return None,
        0x7fff => u64::from(structure.double_word(0x1c)? & 0x7fff_ffff) << 20,
        size if size & 0x8000 != 0 => u64::from(size & 0x7fff) << 10,
        size => u64::from(size) << 20,
    };
    Some(MemoryModule {
        size_bytes,
        slot: structure.string(0x10),
        kind: structure.byte(0x12).and_then(memory_type),
        speed: structure.speed(0x15),
        vendor: structure.string(0x17),
        serial: structure.string(0x18),
        product: structure.string(0x1a),
    })
}

/// DSP0134, table 77.
fn memory_type(code: u8) -> Option<&'static str> {
    Some(match code {
        0x0f => "SDRAM",
        0x12 => "DDR",
        0x13 => "DDR2",
        0x18 => "DDR3",
        0x1a => "DDR4",
        0x1b => "LPDDR",
        0x1c => "LPDDR2",
        0x1d => "LPDDR3",
        0x1e => "LPDDR4",
        0x20 => "HBM",
        0x21 => "HBM2",
        0x22 => "DDR5",
        0x23 => "LPDDR5",
        0x24 => "HBM3",
        _ => return None,
    })
}
