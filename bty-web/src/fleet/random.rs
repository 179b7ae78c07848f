//! Numbers that a seed repeats. Not for secrets.

use bty::Digest;

/// A stream of numbers of its own for each machine.
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

    /// True in `percent` of a hundred cases.
    pub(super) fn happens(&mut self, percent: u32) -> bool {
        self.next() % 100 < u64::from(percent)
    }

    /// A nonce, as the bootstrap script has it.
    pub(super) fn nonce(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }
}
