//! What a person sees of a command that takes its time: `[2/6] images: loaded` on stderr.

/// Counts the steps.
pub(crate) struct Steps {
    done: usize,
    all: usize,
}

impl Steps {
    pub(crate) fn new(all: usize) -> Self {
        Self { done: 0, all }
    }

    /// Says what has come of a step.
    pub(crate) fn say(&mut self, label: &str, detail: &str) {
        self.done += 1;
        eprintln!("[{}/{}] {label}: {detail}", self.done, self.all);
    }
}
