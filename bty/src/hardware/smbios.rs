//! Parses the SMBIOS table, in which the firmware describes the hardware: specification (DSP0134)
//! 3.7, little-endian. The bytes are untrusted.
//!
//! ```text
//! structure:  0 type | 1 length L of the formatted area, these four bytes included | 2..4 handle
//!             4..L fields, by type
//!             L.. strings, each ended by NUL, the last by one more; two NULs when there are none
//! ```
//!
//! A string field holds the number of its string in that set, from 1; 0 is none. Fields beyond L
//! belong to later versions of the specification than that of the table.

use crate::hardware::dmi;

/// Tables have a few KiB, those of the largest servers some hundred.
pub(super) const TABLE_BYTES_MAX: u64 = 1 << 20;
const STRUCTURES_MAX: usize = 1 << 14;
const HEADER_BYTES: usize = 4;

// structure types
const FIRMWARE: u8 = 0;
const SYSTEM: u8 = 1;
const BOARD: u8 = 2;
const PROCESSOR: u8 = 4;
const MEMORY_ARRAY: u8 = 16;
const MEMORY_DEVICE: u8 = 17;
const END: u8 = 127;

/// The fields of a table that are used. Values that stand for "unknown" are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SmbiosTable {
    pub(super) firmware: Option<Firmware>,
    /// Handle of the system structure.
    pub(super) system: Option<u16>,
    /// Handle of the main board structure.
    pub(super) board: Option<u16>,
    /// Central processors in populated sockets.
    pub(super) processors: Vec<Processor>,
    /// Arrays of memory slots or chips.
    pub(super) arrays: Vec<MemoryArray>,
    /// Memory slots, including empty ones.
    pub(super) devices: Vec<MemoryDevice>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Firmware {
    pub(super) handle: u16,
    pub(super) rom_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Processor {
    pub(super) handle: u16,
    pub(super) socket: Option<String>,
    pub(super) vendor: Option<String>,
    pub(super) version: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) external_mhz: Option<u64>,
    pub(super) max_mhz: Option<u64>,
    pub(super) current_mhz: Option<u64>,
    pub(super) cores: Option<u64>,
    pub(super) cores_enabled: Option<u64>,
    pub(super) threads: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemoryArray {
    pub(super) handle: u16,
    /// It is system memory, not flash or a cache.
    pub(super) is_system: bool,
    /// It is on the main board.
    pub(super) is_on_board: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemoryDevice {
    pub(super) handle: u16,
    /// Handle of the array that it belongs to.
    pub(super) array: u16,
    pub(super) size_bytes: Option<u64>,
    /// The slot is known to be empty.
    pub(super) is_empty: bool,
    pub(super) width_bits: Option<u64>,
    pub(super) form: u8,
    pub(super) kind: u8,
    pub(super) detail: u16,
    pub(super) slot: Option<String>,
    pub(super) vendor: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) part: Option<String>,
    /// Millions of transfers per second: the configured speed or, if unknown, the maximum.
    pub(super) speed: Option<u64>,
}

impl SmbiosTable {
    /// Parses as much of `bytes` as is valid. Never fails.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut table = Self::default();
        for structure in structures(bytes) {
            match structure.kind {
                FIRMWARE if table.firmware.is_none() => table.firmware = Some(structure.firmware()),
                SYSTEM if table.system.is_none() => table.system = Some(structure.handle),
                BOARD if table.board.is_none() => table.board = Some(structure.handle),
                PROCESSOR => table.processors.extend(structure.processor()),
                MEMORY_ARRAY => table.arrays.push(structure.memory_array()),
                MEMORY_DEVICE => table.devices.push(structure.memory_device()),
                _ => {}
            }
        }
        table
    }
}

#[derive(Clone, Copy, Debug)]
struct Structure<'a> {
    kind: u8,
    handle: u16,
    /// The formatted area, header included.
    area: &'a [u8],
    /// The set of strings, without the NULs at its end.
    strings: &'a [u8],
}

/// The structures in `table`, up to the end marker or the first one that is invalid.
fn structures(table: &[u8]) -> impl Iterator<Item = Structure<'_>> {
    let mut rest = table;
    std::iter::from_fn(move || {
        let &[kind, len, low, high, ..] = rest else { return None };
        let len = usize::from(len);
        if len < HEADER_BYTES || kind == END {
            return None;
        }
        let (area, after) = rest.split_at_checked(len)?;
        // a table may be truncated in the strings of its last structure
        let end = after.windows(2).position(|pair| pair == [0, 0]);
        let strings = &after[..end.unwrap_or(after.len())];
        rest = end.map_or(&[], |end| &after[end + 2..]);
        Some(Structure { kind, handle: u16::from_le_bytes([low, high]), area, strings })
    })
    .take(STRUCTURES_MAX)
}

impl Structure<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.area.get(at..)?.first_chunk().copied()
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.area.get(at).copied()
    }

    fn word(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn dword(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    /// The string whose number is at `at`; `None` for placeholders.
    fn text(&self, at: usize) -> Option<String> {
        let number = usize::from(self.byte(at)?).checked_sub(1)?;
        dmi::field(self.strings.split(|&byte| byte == 0).nth(number)?)
    }

    /// The word at `at`; `None` for 0, which means unknown.
    fn known(&self, at: usize) -> Option<u64> {
        self.word(at).filter(|&value| value != 0).map(u64::from)
    }

    /// The count in the byte at `at`, or in the word at `wide` when the byte is 255. `None` for 0,
    /// which means unknown.
    fn count(&self, at: usize, wide: usize) -> Option<u64> {
        match self.byte(at)? {
            0 => None,
            0xff => self.known(wide).filter(|&count| count != 0xffff).or(Some(0xff)),
            count => Some(u64::from(count)),
        }
    }

    // type 0:
    //  9 size of the ROM in units of 64 KiB, less one; 255 "see 24"
    // 24..26 size of the ROM: bits 0..14 number, 14..16 unit (0 MiB, 1 GiB)
    fn firmware(&self) -> Firmware {
        let extended = || {
            let size = self.word(24)?;
            let unit = match size >> 14 {
                0 => 20,
                1 => 30,
                _ => return None,
            };
            Some(u64::from(size & 0x3fff) << unit)
        };
        let rom_bytes = match self.byte(9) {
            Some(0xff) => extended().or(Some(16 << 20)),
            size => size.map(|size| (u64::from(size) + 1) << 16),
        };
        Firmware { handle: self.handle, rom_bytes }
    }

    // type 4:
    //  4 socket, string               | 5 type (3 central processor)  | 7 vendor, string
    // 16 version, string              | 18..20 external clock, MHz    | 20..22 maximum speed, MHz
    // 22..24 speed, MHz               | 24 status, bit 6 populated    | 32 serial number, string
    // 35 cores | 36 cores enabled | 37 threads; 42..44, 44..46, 46..48 the same where those are 255
    fn processor(&self) -> Option<Processor> {
        const CENTRAL: u8 = 3;
        const POPULATED: u8 = 1 << 6;
        if self.byte(5)? != CENTRAL || self.byte(24).is_some_and(|status| status & POPULATED == 0) {
            return None;
        }
        Some(Processor {
            handle: self.handle,
            socket: self.text(4),
            vendor: self.text(7),
            version: self.text(16),
            serial: self.text(32),
            external_mhz: self.known(18),
            max_mhz: self.known(20),
            current_mhz: self.known(22),
            cores: self.count(35, 42),
            cores_enabled: self.count(36, 44),
            threads: self.count(37, 46),
        })
    }

    // type 16:  4 location (3 main board) | 5 use (3 system memory)
    fn memory_array(&self) -> MemoryArray {
        MemoryArray {
            handle: self.handle,
            is_system: self.byte(5) == Some(3),
            is_on_board: self.byte(4) == Some(3),
        }
    }

    // type 17:
    //  4..6 handle of the array       | 10..12 data width, bits       | 14 form factor
    // 12..14 size: 0 empty, ffff unknown, 7fff "see 28", with bit 15 in KiB, else in MiB
    // 16 slot, string                 | 17 bank, string               | 18 type
    // 19..21 type detail, bits        | 21..23 speed, MT/s; ffff "see 84"
    // 23 vendor | 24 serial number | 26 part number, strings          | 28..32 size, MiB
    // 32..34 configured speed; ffff "see 88" | 84..88 speed | 88..92 configured speed
    fn memory_device(&self) -> MemoryDevice {
        let size_bytes = match self.word(12).unwrap_or(0xffff) {
            0 | 0xffff => None,
            0x7fff => self.dword(28).map(|size| u64::from(size & 0x7fff_ffff) << 20),
            size if size & 0x8000 != 0 => Some(u64::from(size & 0x7fff) << 10),
            size => Some(u64::from(size) << 20),
        };
        MemoryDevice {
            handle: self.handle,
            array: self.word(4).unwrap_or(u16::MAX),
            size_bytes: size_bytes.filter(|&size| size > 0),
            is_empty: self.word(12) == Some(0),
            width_bits: self.known(10).filter(|&width| width != 0xffff),
            form: self.byte(14).unwrap_or(0),
            kind: self.byte(18).unwrap_or(0),
            detail: self.word(19).unwrap_or(0),
            slot: self.text(16).or_else(|| self.text(17)),
            vendor: self.text(23),
            serial: self.text(24),
            part: self.text(26),
            speed: self.speed(32, 88).or_else(|| self.speed(21, 84)),
        }
    }

    fn speed(&self, at: usize, wide: usize) -> Option<u64> {
        match self.word(at)? {
            0 => None,
            0xffff => self
                .dword(wide)
                .filter(|&speed| speed != 0)
                .map(|speed| u64::from(speed & 0x7fff_ffff)),
            speed => Some(u64::from(speed)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
