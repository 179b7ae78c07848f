//! Sizes in bytes: parses what people write, and formats for people to read.
//!
//! ```
//! use bty::size::{human, parse};
//!
//! assert_eq!(parse("4G")?, 4 << 30); // K, M, G, T and KiB … are powers of 1024
//! assert_eq!(parse("4GB")?, 4_000_000_000); // KB, MB, GB, TB are powers of 1000
//! assert_eq!(human(500_107_862_016), "465.8 GiB");
//! # Ok::<(), bty::Error>(())
//! ```

use crate::{Error, ErrorKind, Result};

/// One kibibyte: 1024 bytes.
pub const KIB: u64 = 1 << 10;
/// One mebibyte: 1024 KiB.
pub const MIB: u64 = 1 << 20;
/// One gibibyte: 1024 MiB.
pub const GIB: u64 = 1 << 30;

/// Formats `bytes` for people, with one decimal: `512 B`, `4.0 MiB`, `1.8 TiB`.
///
/// ```
/// assert_eq!(bty::size::human(4 << 20), "4.0 MiB");
/// assert_eq!(bty::size::human(511), "511 B");
/// ```
#[must_use]
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < KIB {
        return format!("{bytes} B");
    }
    let mut exponent = (63 - bytes.leading_zeros() as usize) / 10;
    #[allow(clippy::cast_precision_loss)] // one decimal is shown
    let mut value = bytes as f64 / (1u64 << (10 * exponent)) as f64;
    if value >= 1023.95 && exponent < UNITS.len() {
        exponent += 1;
        value /= 1024.0;
    }
    format!("{value:.1} {}", UNITS[exponent - 1])
}

/// Parses a size: a number of bytes, or a number with a unit. `K`, `M`, `G`, `T` and `KiB` … are
/// powers of 1024. `KB`, `MB`, `GB`, `TB` are powers of 1000, as on the label of a disk.
///
/// ```
/// assert_eq!(bty::size::parse("4G")?, 4 << 30);
/// assert_eq!(bty::size::parse("1.5 MiB")?, 3 << 19);
/// assert_eq!(bty::size::parse("500GB")?, 500_000_000_000);
/// # Ok::<(), bty::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Usage`] when `text` is not a size, or larger than 2^64 - 1 bytes.
pub fn parse(text: &str) -> Result<u64> {
    let bad = || {
        Error::new(ErrorKind::Usage, format!("{text:?} is not a size"))
            .hint("write bytes, or a number with a unit: 4096, 512M, 8GiB, 500GB")
    };
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => KIB,
        "m" | "mib" => MIB,
        "g" | "gib" => GIB,
        "t" | "tib" => GIB << 10,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(bad()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let mut bytes = u128::from(whole) * u128::from(scale);
    if !fraction.is_empty() {
        let digits = u32::try_from(fraction.len()).ok().filter(|&n| n <= 18).ok_or_else(bad)?;
        let parts: u64 = fraction.parse().map_err(|_| bad())?;
        bytes += u128::from(parts) * u128::from(scale) / 10u128.pow(digits);
    } else if number.ends_with('.') {
        return Err(bad());
    }
    u64::try_from(bytes).map_err(|_| bad())
}

/// Rounds `value` up to a multiple of `unit`, a power of two; saturates at the last multiple.
#[must_use]
pub(crate) fn align_up(value: u64, unit: u64) -> u64 {
    debug_assert!(unit.is_power_of_two());
    value.saturating_add(unit - 1) & !(unit - 1)
}

/// Rounds `value` down to a multiple of `unit`, a power of two.
#[must_use]
pub(crate) fn align_down(value: u64, unit: u64) -> u64 {
    debug_assert!(unit.is_power_of_two());
    value & !(unit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_sizes_with_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (MIB - 1, "1.0 MiB"),
            (GIB, "1.0 GiB"),
            (500_107_862_016, "465.8 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn parses_sizes_and_rejects_other_text() {
        assert_eq!(parse("0").unwrap(), 0);
        assert_eq!(parse(" 8 GiB ").unwrap(), 8 * GIB);
        assert_eq!(parse("0.5k").unwrap(), 512);
        for bad in ["", "G", "4X", "-1", "1.", "1.2.3", "1e9", "99999999999T", ".5G"] {
            assert_eq!(parse(bad).unwrap_err().kind(), ErrorKind::Usage, "{bad:?}");
        }
    }

    #[test]
    fn aligns_without_overflow() {
        assert_eq!(align_up(1, 512), 512);
        assert_eq!(align_up(512, 512), 512);
        assert_eq!(align_up(u64::MAX, 4096), u64::MAX - 4095);
        assert_eq!(align_down(4097, 4096), 4096);
    }
}
