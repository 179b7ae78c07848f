//! How a disk is erased.

use crate::string_enum::string_enum;

string_enum! {
    /// How a disk is erased. Whatever the way, all of it is read back afterwards.
    pub enum EraseWay: "way to erase" {
        /// Writes zeros to every sector.
        Zeros = "zeros",
        /// Writes random bytes to every sector after the first MiB, which gets zeros. Random bytes
        /// cannot be compressed or left out by the disk.
        Random = "random",
        /// Zeroes every sector by the device's own command, which also gives flash memory back to
        /// the disk. Where there is no such command, writes zeros.
        Discard = "discard",
        /// Has an NVMe disk erase all user data by its command Format NVM, which includes sectors
        /// that cannot be addressed any more; then as [`Discard`](Self::Discard).
        NvmeFormat = "nvme_format",
    }
}
