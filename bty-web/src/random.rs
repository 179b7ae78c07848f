//! Random tokens.

/// Returns 128 random bits as 32 hexadecimal digits.
///
/// # Panics
/// If the system has no source of random numbers, because no token would be safe.
#[must_use]
pub fn random_token() -> String {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
