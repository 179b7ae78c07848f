//! The module `disks`, and the type `Disk`.

use std::time::Duration;

use bty::flash::EraseWay;
use bty::{Disk, Error, ErrorKind, Selector};
use rhai::plugin::*;
use rhai::{Dynamic, FnPtr, INT, NativeCallContext};

use super::flash;
use crate::api::types::{
    AnyDisk, AnySize, Disks, Maps, MaybeBool, MaybeString, Object, Strings, Text,
};
use crate::context::{Capability, ScriptContext};
use crate::convert::{Size, from_rust};
use crate::error::{CallResult, raise};

/// Pause between two searches for a disk that has not appeared yet.
const RESCAN_EVERY: Duration = Duration::from_millis(500);

fn text(value: Option<&String>) -> Dynamic {
    value.map_or(Dynamic::UNIT, |text| text.clone().into())
}

#[export_module]
pub(super) mod functions {
    /// Lists all disks: whole disks and attached loop devices, sorted by path.
    #[rhai_fn(return_raw)]
    pub fn list(call: NativeCallContext) -> CallResult<Disks> {
        let disks =
            ScriptContext::require(&call, Capability::Read)?.world.disks.list().map_err(raise)?;
        Ok(disks.into_iter().map(Dynamic::from).collect())
    }

    /// The disk, partition, loop device or file at `path`.
    #[rhai_fn(return_raw)]
    pub fn probe(call: NativeCallContext, path: &str) -> CallResult<Disk> {
        ScriptContext::require(&call, Capability::Read)?
            .world
            .disks
            .probe(path.as_ref())
            .map_err(raise)
    }

    /// The disk that matches `selector`, in the form that `bty flash` takes: a path, `serial:…`,
    /// `wwn:…`, `by-path:…` or `where:transport=usb,size<64G`. Fails and lists the candidates unless
    /// exactly one disk matches.
    #[rhai_fn(return_raw)]
    pub fn select(call: NativeCallContext, selector: &str) -> CallResult<Disk> {
        let context = ScriptContext::require(&call, Capability::Read)?;
        selector.parse::<Selector>().and_then(|s| s.select(&*context.world.disks)).map_err(raise)
    }

    /// The disk with exactly this serial number.
    #[rhai_fn(return_raw)]
    pub fn by_serial(call: NativeCallContext, serial: &str) -> CallResult<Disk> {
        select(call, &format!("serial:{serial}"))
    }

    /// The disk with this world-wide name (WWN).
    #[rhai_fn(return_raw)]
    pub fn by_wwn(call: NativeCallContext, wwn: &str) -> CallResult<Disk> {
        select(call, &format!("wwn:{wwn}"))
    }

    /// The only disk for which `filter` returns true. Fails and lists the candidates if there is
    /// none or more than one. Also fails if the disk has neither a serial number nor a WWN, since
    /// another disk could have its path after the next boot.
    #[rhai_fn(return_raw)]
    pub fn only(call: NativeCallContext, filter: FnPtr) -> CallResult<Disk> {
        let disks =
            ScriptContext::require(&call, Capability::Read)?.world.disks.list().map_err(raise)?;
        let mut found = Vec::new();
        for disk in &disks {
            if filter.call_within_context::<bool>(&call, (disk.clone(),))? {
                found.push(disk.clone());
            }
        }
        // the filter may have called other functions: restore the position for errors
        ScriptContext::from_call(&call)?;
        let refuse = |message: String, candidates: &[Disk]| {
            let lines = candidates.iter().map(|disk| format!("\n  {}", disk.summary()));
            let hint = format!("use another filter; candidates:{}", lines.collect::<String>());
            Err(raise(Error::new(ErrorKind::Refused, message).hint(hint)))
        };
        match found.as_slice() {
            [] => refuse("no disk matches the filter".into(), &disks),
            [one] if one.serial.is_none() && one.wwn.is_none() => refuse(
                format!("{} has neither a serial number nor a WWN", one.path.display()),
                &found,
            ),
            [one] => Ok(one.clone()),
            many => {
                let count = many.len();
                refuse(format!("expected one matching disk, found {count}"), many)
            }
        }
    }

    /// Like `select`, but waits up to `seconds` for the disk to appear: USB disks can take a while.
    #[rhai_fn(return_raw)]
    pub fn wait(call: NativeCallContext, selector: &str, seconds: INT) -> CallResult<Disk> {
        let context = ScriptContext::require(&call, Capability::Read)?;
        let selector: Selector = selector.parse().map_err(raise)?;
        let cancel = context.meter.operation();
        let mut left = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let disks = &*context.world.disks;
        let is_ambiguous = || {
            disks
                .list()
                .is_ok_and(|all| all.iter().filter(|disk| selector.matches(disk)).count() > 1)
        };
        let mut has_announced = false;
        loop {
            match selector.select(disks) {
                Ok(disk) => return Ok(disk),
                // waiting does not resolve an ambiguity
                Err(error) if left.is_zero() || is_ambiguous() => return Err(raise(error)),
                Err(_) if !has_announced => {
                    has_announced = true;
                    let terminal = &context.world.terminal;
                    terminal.say(&format!("waiting up to {seconds} s for disk {selector}"));
                }
                Err(_) => {}
            }
            let step = left.min(RESCAN_EVERY);
            context.world.platform.sleep(step, &cancel).map_err(raise)?;
            left -= step;
        }
    }

    /// Creates a file of `size` at `path` to be used as a disk, for virtual machines and backups.
    /// Fails if the file exists.
    #[rhai_fn(return_raw)]
    pub fn create_file(call: NativeCallContext, path: &str, size: AnySize) -> CallResult<Disk> {
        let context = ScriptContext::require(&call, Capability::Flash)?;
        let size = Size::from_dynamic(&size).map_err(|mut error| {
            error.set_position(call.call_position());
            error
        })?;
        context.world.flasher.create(path.as_ref(), size.0).map_err(raise)
    }

    /// Overwrites all of a disk with zeros, and reads it back. ALL DATA ON IT WILL BE LOST. Returns a
    /// map with `way`, `erased_bytes`, `verified_bytes` (read back and right), `is_attested` and
    /// `elapsed_ms`. Fails if the disk is in use, or holds something else afterwards.
    #[rhai_fn(name = "erase", return_raw)]
    pub fn erase_plainly(call: NativeCallContext, disk: AnyDisk) -> CallResult<Object> {
        from_rust(&flash::erase(&call, &disk, EraseWay::Zeros.as_str())?)
    }

    /// Erases in one of these ways: `zeros`; `random`; `discard`, by the command that also frees
    /// flash memory; `nvme_format`, by which an NVMe disk also erases what cannot be read, and
    /// says so (`is_attested`). All of the disk is read back after each of them.
    #[rhai_fn(name = "erase", return_raw)]
    pub fn erase_by(call: NativeCallContext, disk: AnyDisk, way: &str) -> CallResult<Object> {
        from_rust(&flash::erase(&call, &disk, way)?)
    }

    /// Path of the device node or file, such as `/dev/nvme0n1`.
    #[rhai_fn(global, get = "path", pure)]
    pub fn path(disk: &mut Disk) -> String {
        bty::text::path_reference(&disk.path)
    }

    /// Kind of device: `disk`, `loop`, `partition`, `file` or `other`.
    #[rhai_fn(global, get = "kind", pure, return_raw)]
    pub fn kind(disk: &mut Disk) -> CallResult<Text> {
        from_rust(&disk.kind)
    }

    /// Size of the disk.
    #[rhai_fn(global, get = "size_bytes", pure)]
    pub fn size_bytes(disk: &mut Disk) -> Size {
        Size(disk.size_bytes)
    }

    /// Bytes per logical sector: 512 or 4096.
    #[rhai_fn(global, get = "logical_sector_bytes", pure)]
    pub fn logical_sector_bytes(disk: &mut Disk) -> INT {
        disk.logical_sector_bytes.into()
    }

    /// Vendor; `()` if the disk does not report one.
    #[rhai_fn(global, get = "vendor", pure)]
    pub fn vendor(disk: &mut Disk) -> MaybeString {
        text(disk.vendor.as_ref())
    }

    /// Model; `()` if the disk does not report one.
    #[rhai_fn(global, get = "model", pure)]
    pub fn model(disk: &mut Disk) -> MaybeString {
        text(disk.model.as_ref())
    }

    /// Serial number; `()` if the disk does not report one.
    #[rhai_fn(global, get = "serial", pure)]
    pub fn serial(disk: &mut Disk) -> MaybeString {
        text(disk.serial.as_ref())
    }

    /// World-wide name (WWN); `()` if the disk does not report one.
    #[rhai_fn(global, get = "wwn", pure)]
    pub fn wwn(disk: &mut Disk) -> MaybeString {
        text(disk.wwn.as_ref())
    }

    /// Where the disk is attached, in the notation of `/dev/disk/by-path`; `()` if unknown.
    #[rhai_fn(global, get = "by_path", pure)]
    pub fn by_path(disk: &mut Disk) -> MaybeString {
        text(disk.by_path.as_ref())
    }

    /// How the disk is attached: `nvme`, `sata`, `usb`, `virtio`, `loop`, `file` and others; `()`
    /// if unknown.
    #[rhai_fn(global, get = "transport", pure)]
    pub fn transport(disk: &mut Disk) -> MaybeString {
        text(disk.transport.as_ref())
    }

    /// True if the medium is removable.
    #[rhai_fn(global, get = "is_removable", pure)]
    pub fn is_removable(disk: &mut Disk) -> bool {
        disk.is_removable
    }

    /// True if the kernel refuses to write to the disk.
    #[rhai_fn(global, get = "is_read_only", pure)]
    pub fn is_read_only(disk: &mut Disk) -> bool {
        disk.is_read_only
    }

    /// True for a spinning disk, false for others; `()` if unknown.
    #[rhai_fn(global, get = "is_rotational", pure)]
    pub fn is_rotational(disk: &mut Disk) -> MaybeBool {
        disk.is_rotational.map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// True if the disk is in use: mounted, used as swap, or held by another device. bty does not
    /// write to such a disk.
    #[rhai_fn(global, get = "is_used", pure)]
    pub fn is_used(disk: &mut Disk) -> bool {
        !disk.uses.is_empty()
    }

    /// What uses the disk, as strings that also say how to release it.
    #[rhai_fn(global, get = "uses", pure)]
    pub fn uses(disk: &mut Disk) -> Strings {
        disk.uses.iter().map(|usage| usage.to_string().into()).collect()
    }

    /// The partitions: maps with `number`, `start_bytes`, `size_bytes`, `name`, `type_id`,
    /// `content`.
    #[rhai_fn(global, get = "partitions", pure, return_raw)]
    pub fn partitions(disk: &mut Disk) -> CallResult<Maps> {
        from_rust(&disk.partitions)
    }

    /// What is on the disk now, in one line.
    #[rhai_fn(global, get = "contents", pure)]
    pub fn contents(disk: &mut Disk) -> String {
        disk.contents()
    }

    /// Path, size, model and serial number in one line.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn to_string(disk: &mut Disk) -> String {
        disk.summary()
    }

    /// True if both mean the same hardware, still attached since the same time.
    #[rhai_fn(global, name = "==")]
    pub fn equal(a: Disk, b: Disk) -> bool {
        a.is_same_disk(&b)
    }
}
