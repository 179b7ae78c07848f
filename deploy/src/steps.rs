//! Progress of a command with several steps, on stderr: `[2/6] images: loaded`.

pub(crate) struct Steps {
    done: usize,
    total: usize,
}

impl Steps {
    pub(crate) fn new(total: usize) -> Self {
        Self { done: 0, total }
    }

    /// Prints the result of a completed step.
    pub(crate) fn report(&mut self, label: &str, detail: &str) {
        self.done += 1;
        eprintln!("[{}/{}] {label}: {detail}", self.done, self.total);
    }
}
