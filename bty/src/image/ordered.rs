//! Results that several threads compute in any order, delivered by number.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::{CancelToken, Error, ErrorKind, Result, threads};

/// A result and its number, counted from 0 without gaps.
pub(crate) type Numbered<T> = (u64, Result<T>);

/// The reader was dropped, so nobody wants further results.
pub(crate) struct ReaderDropped;

/// The threads, and the results that arrived before their turn. Dropping it ends the threads.
///
/// Whoever numbers the results must take the buffer for a result before those for later ones.
/// Otherwise results that wait here could hold all buffers, and the one that is due would never
/// come.
pub(crate) struct OrderedResults<T> {
    results: Option<Receiver<Numbered<T>>>,
    early: BTreeMap<u64, Result<T>>,
    due: u64,
    cancel: CancelToken,
    /// Stops only these threads.
    stop: CancelToken,
    threads: Vec<JoinHandle<()>>,
}

impl<T> OrderedResults<T> {
    /// Returns the results, and the sender for the threads. `queue` results may wait in between.
    pub(crate) fn new(queue: usize, cancel: &CancelToken) -> (Self, Sender<Numbered<T>>) {
        let (sender, receiver) = bounded(queue);
        let this = Self {
            results: Some(receiver),
            early: BTreeMap::new(),
            due: 0,
            cancel: cancel.clone(),
            stop: CancelToken::new(),
            threads: Vec::new(),
        };
        (this, sender)
    }

    /// Is cancelled when the threads should end.
    pub(crate) fn stop(&self) -> &CancelToken {
        &self.stop
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when the system refuses the thread.
    pub(crate) fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
        self.threads.push(threads::start(name, run)?);
        Ok(())
    }

    /// Waits for the result that is due. After an error, the threads end.
    pub(crate) fn next(&mut self) -> Result<T> {
        self.wait().inspect_err(|_| self.close())
    }

    fn wait(&mut self) -> Result<T> {
        loop {
            self.cancel.check()?;
            if let Some(result) = self.early.remove(&self.due) {
                self.due += 1;
                return result;
            }
            let results = self.results.as_ref().ok_or_else(Error::cancelled)?;
            match results.recv_timeout(Duration::from_millis(100)) {
                Ok((number, result)) => drop(self.early.insert(number, result)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(
                        ErrorKind::Host,
                        "a thread that reads the image ended unexpectedly",
                    ));
                }
            }
        }
    }

    /// Stops the threads, and releases what they have computed.
    fn close(&mut self) {
        self.stop.cancel();
        self.results = None;
        self.early.clear();
    }
}

impl<T> Drop for OrderedResults<T> {
    fn drop(&mut self) {
        self.close();
        for thread in self.threads.drain(..) {
            // a panic of the thread was already reported
            let _ = thread.join();
        }
    }
}
