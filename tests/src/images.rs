//! Small disk images.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `len` bytes like those of a disk: a boot signature, data, long runs of zeros, and data up to the
/// last byte.
#[must_use]
pub fn disk_image(len: usize) -> Vec<u8> {
    let mut image = vec![0; len];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for (i, chunk) in image.chunks_mut(320 << 10).enumerate() {
        // every third chunk is data, and so is the last one
        if i % 3 == 0 || (i + 1) * (320 << 10) >= len {
            for byte in chunk {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state.to_le_bytes()[3];
            }
        }
    }
    if len >= 512 {
        image[510] = 0x55;
        image[511] = 0xaa;
    }
    image
}

/// A disk image of `len` bytes with data, and a GPT for sectors of `sector_bytes` with one
/// partition that ends before 6 MiB.
#[must_use]
pub fn gpt_image(len: usize, sector_bytes: u32) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut image = disk_image(len);
    image[..1 << 20].fill(0);
    image[len - (1 << 20)..].fill(0);
    let path = write(dir.path(), "disk", &image);
    let sector = sector_bytes.to_string();
    // sfdisk of Debian 12 has no option for the sector size, fdisk has
    let _ = filter(
        &["fdisk", "--sector-size", &sector, path.to_str().unwrap()],
        b"g\nn\n1\n\n+4M\nw\n",
    );
    std::fs::read(path).unwrap()
}

/// Writes `bytes` to a file `name` in `dir`.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Pipes `input` through a program and returns its output: `filter(&["zstd", "-c"], bytes)`.
///
/// # Panics
/// If the program is missing or fails. `make packages` installs the programs that tests use.
#[must_use]
pub fn filter(command: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", command[0]));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}: {}", output.status);
    output.stdout
}
