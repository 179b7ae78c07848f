//! Fuzz targets for the parsers of untrusted bytes, and a way to run them without a fuzzer.
//!
//! `cargo +nightly fuzz run decode` searches for inputs; it needs a nightly compiler and
//! cargo-fuzz. Any other build compiles each target into a program that replays inputs, with or
//! without a debugger: `target/debug/decode fuzz/artifacts/decode` repeats a crash that the fuzzer
//! has found.

use std::path::{Path, PathBuf};

/// Turns the crate into a fuzz target that calls the given function with each input.
#[macro_export]
macro_rules! target {
    ($run:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $run(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::replay(std::env::args_os().skip(1).map(Into::into), $run)
        }
    };
}

/// Calls `run` with the content of each file in `paths`, and of the files in each directory.
///
/// # Errors
/// The error of a path that cannot be read.
pub fn replay(paths: impl Iterator<Item = PathBuf>, run: fn(&[u8])) -> std::io::Result<()> {
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path)?.map(|entry| Ok(entry?.path()));
            replay(entries.collect::<std::io::Result<Vec<_>>>()?.into_iter(), run)?;
        } else {
            replay_file(&path, run)?;
        }
    }
    Ok(())
}

fn replay_file(path: &Path, run: fn(&[u8])) -> std::io::Result<()> {
    let input = std::fs::read(path)?;
    // printed before the call, because the call may crash
    eprintln!("{}: {} bytes", path.display(), input.len());
    run(&input);
    Ok(())
}
