//! Stands in for `bty repl` if the feature `repl` is off.

use std::process::ExitCode;

use bty::{Error, ErrorKind};

use crate::cli::Network;
use crate::output::Output;

pub(crate) fn run(_: &Network, _: &Output) -> bty::Result<ExitCode> {
    let message = "lines cannot be edited: the feature \"repl\" is off in this program";
    Err(Error::new(ErrorKind::Usage, message)
        .hint("write a script and run it with bty run, or build bty-script with this feature"))
}
