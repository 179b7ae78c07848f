//! System calls without a safe wrapper in rustix. This is the only unsafe code of the library.
#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::io::Result;
use rustix::ioctl::{Getter, NoArg, ioctl, opcode};

const BLKROGET: u32 = opcode::none(0x12, 94);
const BLKRRPART: u32 = opcode::none(0x12, 95);
// the kernel declares it with size_t, but writes 64 bits
const BLKGETSIZE64: u32 = opcode::read::<usize>(0x12, 114);
const BLKDISKSEQ: u32 = opcode::read::<u64>(0x12, 128);

pub(crate) fn size_bytes(device: impl AsFd) -> Result<u64> {
    // SAFETY: BLKGETSIZE64 writes one u64 through the pointer, on 32-bit kernels too.
    unsafe { ioctl(device, Getter::<BLKGETSIZE64, u64>::new()) }
}

pub(crate) fn is_read_only(device: impl AsFd) -> Result<bool> {
    // SAFETY: BLKROGET writes one int through the pointer.
    let value = unsafe { ioctl(device, Getter::<BLKROGET, i32>::new()) }?;
    Ok(value != 0)
}

/// The number that the kernel gave to the disk when it appeared.
pub(crate) fn diskseq(device: impl AsFd) -> Result<u64> {
    // SAFETY: BLKDISKSEQ writes one u64 through the pointer.
    unsafe { ioctl(device, Getter::<BLKDISKSEQ, u64>::new()) }
}

pub(crate) fn reread_table(device: impl AsFd) -> Result<()> {
    // SAFETY: BLKRRPART takes no argument and touches no memory of this process.
    unsafe { ioctl(device, NoArg::<BLKRRPART>::new()) }
}

/// Starts writing the dirty pages in a range of a regular file to the disk, without waiting.
pub(crate) fn start_writeback(file: impl AsFd, offset: u64, len: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // SAFETY: takes a live descriptor and plain numbers. The result does not matter, because a
    // flush follows and reports errors.
    unsafe {
        libc::sync_file_range(file.as_fd().as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE)
    };
}

/// Loads a kernel, for a later `reboot(LINUX_REBOOT_CMD_KEXEC)`.
pub(crate) fn kexec_file_load(
    linux: &std::fs::File,
    initrd: Option<&std::fs::File>,
    options: &str,
) -> Result<()> {
    use std::os::fd::AsRawFd;
    // from linux/kexec.h
    const KEXEC_FILE_NO_INITRAMFS: libc::c_ulong = 4;
    let options = std::ffi::CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
    let len = options.as_bytes_with_nul().len();
    let (initrd, flags) =
        initrd.map_or((-1, KEXEC_FILE_NO_INITRAMFS), |file| (file.as_raw_fd(), 0));
    // SAFETY: the descriptors live until the call returns, and it reads `len` bytes of the command
    // line, the final NUL included.
    let done = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            linux.as_raw_fd(),
            initrd,
            len,
            options.as_ptr(),
            flags,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(rustix::io::Errno::from_io_error(&std::io::Error::last_os_error())
            .unwrap_or(rustix::io::Errno::INVAL)),
    }
}

/// `struct nvme_passthru_cmd` of linux/nvme_ioctl.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct NvmeCommand {
    pub(super) opcode: u8,
    pub(super) flags: u8,
    pub(super) reserved: u16,
    pub(super) namespace: u32,
    pub(super) cdw2: u32,
    pub(super) cdw3: u32,
    pub(super) metadata: u64,
    pub(super) data: u64,
    pub(super) metadata_len: u32,
    pub(super) data_len: u32,
    pub(super) cdw10: u32,
    pub(super) cdw11_to_15: [u32; 5],
    pub(super) timeout_ms: u32,
    pub(super) result: u32,
}

const NVME_IOCTL_ID: u32 = opcode::none(b'N', 0x40);
const NVME_IOCTL_ADMIN_CMD: u32 = opcode::read_write::<NvmeCommand>(b'N', 0x41);

/// The number of the NVMe namespace that `device` is.
pub(super) fn nvme_namespace(device: impl AsFd) -> std::io::Result<u32> {
    use std::os::fd::AsRawFd;
    // SAFETY: NVME_IOCTL_ID takes no argument and touches no memory of this process.
    let id = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), libc::Ioctl::from(NVME_IOCTL_ID)) };
    u32::try_from(id).map_err(|_| std::io::Error::last_os_error())
}

/// Sends an admin command, and waits until the controller has carried it out. It may write to
/// `data`.
pub(super) fn nvme_admin(
    device: impl AsFd,
    mut command: NvmeCommand,
    data: &mut [u8],
) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    command.data = data.as_mut_ptr().expose_provenance() as u64;
    command.data_len = u32::try_from(data.len()).map_err(std::io::Error::other)?;
    let command: *mut NvmeCommand = &raw mut command;
    // SAFETY: the kernel reads and writes one NvmeCommand through the pointer, and at most
    // `data_len` bytes at `data`; both live until the call returns.
    let done = unsafe {
        libc::ioctl(device.as_fd().as_raw_fd(), libc::Ioctl::from(NVME_IOCTL_ADMIN_CMD), command)
    };
    match done {
        0 => Ok(()),
        status if status > 0 => {
            Err(std::io::Error::other(format!("the disk answers with NVMe status {status:#x}")))
        }
        _ => Err(std::io::Error::last_os_error()),
    }
}
