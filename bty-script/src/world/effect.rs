//! What a script would have done.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bty::Digest;
use bty::flash::FlashOptions;
use serde::Serialize;

use crate::error::Power;

/// One thing that a dry run did not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Effect {
    /// An image was to be written to disks.
    Flash {
        /// Where the image is.
        image: String,
        /// The digest that it must have.
        sha256: Option<Digest>,
        /// The disks.
        targets: Vec<Target>,
        /// How.
        options: Box<FlashOptions>,
    },
    /// A file was to be created.
    Create {
        /// Where.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
    },
    /// Something was to be sent.
    Post {
        /// To where.
        url: String,
        /// What.
        body: serde_json::Value,
    },
    /// Time was to pass.
    Sleep {
        /// Milliseconds.
        millis: u64,
    },
    /// A line for the log.
    Log {
        /// The line.
        line: String,
    },
    /// The machine was to restart or to be switched off.
    Power {
        /// Which.
        action: Power,
    },
}

/// A disk in an [`Effect`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Target {
    /// Its path.
    pub path: PathBuf,
    /// Its serial number.
    pub serial: Option<String>,
}

impl Target {
    pub(super) fn of(disk: &bty::Disk) -> Self {
        Self { path: disk.path.clone(), serial: disk.serial.clone() }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash { image, targets, .. } => {
                write!(f, "flash {image} to ")?;
                for (i, target) in targets.iter().enumerate() {
                    write!(f, "{}{}", if i > 0 { ", " } else { "" }, target.path.display())?;
                    if let Some(serial) = &target.serial {
                        write!(f, " (serial {serial})")?;
                    }
                }
                Ok(())
            }
            Self::Create { path, size_bytes } => {
                write!(f, "create {} with {}", path.display(), bty::size::human(*size_bytes))
            }
            Self::Post { url, body } => write!(f, "post {body} to {url}"),
            Self::Sleep { millis } => write!(f, "wait {}.{:03} s", millis / 1000, millis % 1000),
            Self::Log { line } => write!(f, "log {line}"),
            Self::Power { action: Power::Reboot } => f.write_str("reboot"),
            Self::Power { action: Power::Kexec } => f.write_str("kexec"),
            Self::Power { action: Power::PowerOff } => f.write_str("power off"),
        }
    }
}

/// The effects so far. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct Effects(Arc<Mutex<Vec<Effect>>>);

impl Effects {
    /// Takes note of one more.
    pub fn add(&self, effect: Effect) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(effect);
    }

    /// All so far, in their order.
    #[must_use]
    pub fn list(&self) -> Vec<Effect> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
