use super::*;
use crate::extent::Pool;
use crate::{CancelToken, Device};

const SECTOR: usize = 512;

fn write(disk: &MemoryDisk, byte: u8, offset: usize, len: usize) -> io::Result<usize> {
    let mut buffer = Pool::new(1).take(&CancelToken::new()).unwrap();
    buffer[..len].fill(byte);
    disk.write_at(&buffer[..len], offset as u64)
}

fn read(disk: &MemoryDisk, offset: usize) -> io::Result<u8> {
    let mut buffer = Pool::new(1).take(&CancelToken::new()).unwrap();
    disk.read_at(&mut buffer[..SECTOR], offset as u64)?;
    assert!(buffer[1..SECTOR].iter().all(|byte| *byte == buffer[1]));
    Ok(buffer[0])
}

/// First byte of each of the first sectors.
fn sectors<const N: usize>(disk: &MemoryDisk) -> [u8; N] {
    let content = disk.content();
    std::array::from_fn(|n| content[n * SECTOR])
}

#[test]
fn a_power_cut_keeps_any_subset_of_unflushed_sectors() {
    let disk = MemoryDisk::new(16 * SECTOR);
    write(&disk, 1, 0, 2 * SECTOR).unwrap();
    disk.flush().unwrap();
    write(&disk, 2, SECTOR, 2 * SECTOR).unwrap();
    disk.zero_at(0, SECTOR as u64).unwrap();
    let cut = |mask: u64| disk.power_cut(&mut |at| mask >> (at / SECTOR as u64) & 1 == 1);
    assert_eq!(sectors(&cut(0)), [1, 1, 0, 0]);
    assert_eq!(sectors(&cut(0b001)), [0, 1, 0, 0]);
    assert_eq!(sectors(&cut(0b100)), [1, 1, 2, 0]);
    assert_eq!(cut(u64::MAX).content(), disk.content());
    assert_eq!(cut(0).content(), disk.durable());
    disk.flush().unwrap();
    let after = disk.power_cut(&mut |at| panic!("{at} was flushed"));
    assert_eq!(after.content(), disk.content());
}

#[test]
fn sectors_of_4096_bytes_are_lost_whole() {
    let disk = MemoryDisk::new(64 << 10).with_sector_bytes(4096);
    write(&disk, 5, 4096, 8192).unwrap();
    let mut asked = Vec::new();
    let after = disk.power_cut(&mut |at| {
        asked.push(at);
        at == 8192
    });
    assert_eq!(asked, [4096, 8192]);
    assert_eq!(after.sector_bytes(), 4096);
    let kept: Vec<usize> = (0..64 << 10).filter(|&at| after.content()[at] == 5).collect();
    assert_eq!(kept, (8192..12_288).collect::<Vec<_>>());
}

#[test]
fn without_power_every_request_fails_and_the_first_may_be_carried_out_in_part() {
    let faults = Faults { power_after: Some(2), ..Faults::default() };
    let disk = MemoryDisk::new(16 * SECTOR).with_faults(faults);
    write(&disk, 1, 0, SECTOR).unwrap();
    disk.flush().unwrap();
    assert_eq!(read(&disk, 0).unwrap(), 1);
    assert!(write(&disk, 2, 0, 2 * SECTOR).is_err());
    assert!(write(&disk, 3, 0, 4 * SECTOR).is_err());
    assert!(disk.zero_at(0, 512).is_err());
    assert!(disk.flush().is_err());
    assert!(read(&disk, 0).is_err());
    assert_eq!(sectors(&disk.power_cut(&mut |_| false)), [1, 0, 0]);
    assert_eq!(sectors(&disk.power_cut(&mut |at| at == 512)), [1, 2, 0]);
    assert_eq!(sectors(&disk.power_cut(&mut |_| true)), [2, 2, 0]);
    let after = disk.power_cut(&mut |_| true);
    write(&after, 4, 0, SECTOR).unwrap();
    assert_eq!(read(&after, 0).unwrap(), 4);
}

#[test]
fn a_flush_that_meets_the_loss_of_power_flushes_nothing() {
    let faults = Faults { power_after: Some(1), ..Faults::default() };
    let disk = MemoryDisk::new(16 * SECTOR).with_faults(faults);
    write(&disk, 1, 0, SECTOR).unwrap();
    assert!(disk.flush().is_err());
    assert_eq!(disk.durable(), [0; 16 * SECTOR]);
}

#[test]
fn unreadable_sectors_are_read_after_they_are_written() {
    let faults = Faults { unreadable: Some(SECTOR as u64..2048), ..Faults::default() };
    let disk = MemoryDisk::new(16 * SECTOR).with_faults(faults);
    assert_eq!(read(&disk, 0).unwrap(), 0);
    assert!(read(&disk, SECTOR).is_err());
    write(&disk, 1, SECTOR, SECTOR).unwrap();
    disk.zero_at(1024, 512).unwrap();
    assert_eq!([read(&disk, SECTOR).unwrap(), read(&disk, 1024).unwrap()], [1, 0]);
    assert!(read(&disk, 1536).is_err());
    assert_eq!(read(&disk, 2048).unwrap(), 0);
}

#[test]
fn content_changes_once_after_it_was_read() {
    let faults = Faults { change_after_read: Some(0..512), ..Faults::default() };
    let disk = MemoryDisk::new(16 * SECTOR).with_faults(faults);
    write(&disk, 1, 0, 2 * SECTOR).unwrap();
    assert_eq!([read(&disk, 0).unwrap(), read(&disk, 0).unwrap()], [1, !1]);
    assert_eq!([read(&disk, 512).unwrap(), read(&disk, 512).unwrap()], [1, 1]);
    write(&disk, 2, 0, SECTOR).unwrap();
    assert_eq!([read(&disk, 0).unwrap(), read(&disk, 0).unwrap()], [2, 2]);
}
