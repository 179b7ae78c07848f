//! Reproducible random numbers. Not for secrets.

use bty::Digest;

/// The random numbers of one machine, derived from the seed and the machine's number.
pub(super) struct Random {
    seed: String,
    drawn: u64,
}

impl Random {
    pub(super) fn new(seed: u64, machine: u32) -> Self {
        Self { seed: format!("{seed} {machine}"), drawn: 0 }
    }

    fn next(&mut self) -> u64 {
        self.drawn += 1;
        let digest = Digest::of(format!("{} {}", self.seed, self.drawn).as_bytes());
        digest.as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// True with a probability of `percent`.
    pub(super) fn happens(&mut self, percent: u32) -> bool {
        self.next() % 100 < u64::from(percent)
    }

    /// Returns a nonce in the format of the bootstrap script.
    pub(super) fn nonce(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }
}
