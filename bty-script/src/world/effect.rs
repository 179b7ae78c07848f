//! The effects of dry runs and simulations.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bty::Digest;
use bty::flash::{EraseWay, FlashOptions};
use serde::Serialize;

use crate::error::PowerAction;

/// Something that a script would have done on a real machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Effect {
    /// Write an image to disks.
    Flash {
        /// Reference of the image.
        image: String,
        /// Expected SHA-256, if any.
        sha256: Option<Digest>,
        /// The disks that would be written.
        targets: Vec<EffectTarget>,
        /// Options of the flash.
        options: Box<FlashOptions>,
    },
    /// Erase a disk.
    Erase {
        /// The disk.
        disk: EffectTarget,
        /// How it is erased.
        way: EraseWay,
    },
    /// Create a file of zeros, as a disk to flash.
    Create {
        /// Path of the file.
        path: PathBuf,
        /// Size of the file.
        size_bytes: u64,
    },
    /// Write a packed image.
    Pack {
        /// Reference of the image.
        image: String,
        /// Path of the packed image.
        path: PathBuf,
    },
    /// Write an image of a disk.
    CreateImage {
        /// The disk that would be read.
        disk: EffectTarget,
        /// Path of the image.
        path: PathBuf,
    },
    /// Write a text file.
    Write {
        /// Path below the directory of files.
        path: PathBuf,
        /// The whole text of the file.
        text: String,
    },
    /// Send a request with a body.
    Post {
        /// URL of the request.
        url: String,
        /// Body: JSON, or a string if it is not JSON.
        body: serde_json::Value,
    },
    /// Wait without doing anything.
    Sleep {
        /// Duration in milliseconds.
        millis: u64,
    },
    /// Write to the kernel log.
    Log {
        /// The line, without its line break.
        line: String,
    },
    /// Restart the machine or power it off.
    Power {
        /// Restart, `kexec` or power off.
        action: PowerAction,
    },
}

/// A disk in an [`Effect`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EffectTarget {
    /// Path of the device node or file.
    pub path: PathBuf,
    /// Serial number, if the disk reports one.
    pub serial: Option<String>,
}

impl EffectTarget {
    pub(super) fn of(disk: &bty::Disk) -> Self {
        Self { path: disk.path.clone(), serial: disk.serial.clone() }
    }
}

impl fmt::Display for EffectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match &self.serial {
            Some(serial) => write!(f, " (serial {serial})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash { image, targets, .. } => {
                let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
                write!(f, "flash {image} to {}", targets.join(", "))
            }
            Self::Erase { disk, way } => write!(f, "erase {disk} ({way})"),
            Self::Create { path, size_bytes } => {
                write!(f, "create {} with {}", path.display(), bty::size::human(*size_bytes))
            }
            Self::Pack { image, path } => write!(f, "pack {image} to {}", path.display()),
            Self::CreateImage { disk, path } => {
                write!(f, "create the image {} of {}", path.display(), disk.path.display())
            }
            Self::Write { path, text } => {
                let bytes = bty::size::human(text.len() as u64);
                write!(f, "write {} with {bytes}", path.display())
            }
            Self::Post { url, body } => write!(f, "post {body} to {url}"),
            Self::Sleep { millis } => write!(f, "wait {}.{:03} s", millis / 1000, millis % 1000),
            Self::Log { line } => write!(f, "log {line}"),
            Self::Power { action: PowerAction::Reboot } => f.write_str("reboot"),
            Self::Power { action: PowerAction::Kexec } => f.write_str("kexec"),
            Self::Power { action: PowerAction::PowerOff } => f.write_str("power off"),
        }
    }
}

/// The effects recorded so far. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct EffectLog(Arc<Mutex<Vec<Effect>>>);

impl EffectLog {
    /// Appends an effect to the log.
    pub fn record(&self, effect: Effect) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(effect);
    }

    /// All effects so far, in order.
    #[must_use]
    pub fn list(&self) -> Vec<Effect> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
