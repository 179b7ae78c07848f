//! Lists the disks of this machine, and what uses them.
//!
//! cargo run -p bty-core --example list_disks

#![allow(clippy::print_stdout)]

use bty::{DiskHost, Result, SystemHost};

fn main() -> Result<()> {
    for disk in SystemHost::new().list()? {
        println!("{}", disk.summary());
        for usage in &disk.uses {
            println!("    {usage}");
        }
    }
    Ok(())
}
