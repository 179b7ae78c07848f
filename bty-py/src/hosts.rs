//! The machine whose disks all functions see: this one, unless a test has put a simulated one in
//! its place.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bty::{DiskHost, SystemHost, boot};

/// Simulated hosts in use, the latest last. The whole process has one list, because operations may
/// run in any thread.
static SIMULATED: Mutex<Vec<Arc<dyn DiskHost>>> = Mutex::new(Vec::new());

/// A path that nobody can create: a simulated machine has no UEFI.
const NO_EFIVARS: &str = "/proc/no-efivars";

fn simulated<T>(access: impl FnOnce(&mut Vec<Arc<dyn DiskHost>>) -> T) -> T {
    access(&mut SIMULATED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The disks of the machine.
pub(crate) fn current() -> Arc<dyn DiskHost> {
    simulated(|hosts| hosts.last().cloned()).unwrap_or_else(|| Arc::new(SystemHost::new()))
}

/// The firmware's variables. Those of this machine are out of reach while a simulated one is in
/// use, because the variables would name a disk that does not exist.
pub(crate) fn efivars(path: &Path) -> PathBuf {
    let is_simulated = simulated(|hosts| !hosts.is_empty());
    if is_simulated && path == Path::new(boot::EFIVARS) { NO_EFIVARS.into() } else { path.into() }
}

/// Puts `host` in the place of the current one.
pub(crate) fn enter(host: Arc<dyn DiskHost>) {
    simulated(|hosts| hosts.push(host));
}

/// Takes `host` away again.
pub(crate) fn leave(host: &Arc<dyn DiskHost>) {
    simulated(|hosts| {
        if let Some(at) = hosts.iter().rposition(|one| Arc::ptr_eq(one, host)) {
            hosts.remove(at);
        }
    });
}
