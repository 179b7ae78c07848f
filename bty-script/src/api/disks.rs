//! `disks`.

use std::time::Duration;

use bty::{Disk, Error, ErrorKind, Selector};
use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, INT, NativeCallContext};

use crate::context::{Capability, ScriptContext};
use crate::convert::{Size, from_rust};
use crate::error::{Outcome, raise};

/// How long a disk is waited for between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

fn text(value: Option<&String>) -> Dynamic {
    value.map_or(Dynamic::UNIT, |text| text.clone().into())
}

#[export_module]
pub(super) mod functions {
    /// All disks: whole disks and attached loop devices, sorted by path.
    #[rhai_fn(return_raw)]
    pub fn list(context: NativeCallContext) -> Outcome<Array> {
        let disks =
            ScriptContext::of(&context, Capability::Read)?.world.disks.list().map_err(raise)?;
        Ok(disks.into_iter().map(Dynamic::from).collect())
    }

    /// The disk, partition, loop device or file at `path`.
    #[rhai_fn(return_raw)]
    pub fn probe(context: NativeCallContext, path: &str) -> Outcome<Disk> {
        ScriptContext::of(&context, Capability::Read)?
            .world
            .disks
            .probe(path.as_ref())
            .map_err(raise)
    }

    /// The one disk that `selector` means, written as for `bty flash`: a path, `serial:…`, `wwn:…`
    /// or `where:transport=usb,size<64G`. Fails with the candidates when there is none or more than
    /// one.
    #[rhai_fn(return_raw)]
    pub fn select(context: NativeCallContext, selector: &str) -> Outcome<Disk> {
        let host = ScriptContext::of(&context, Capability::Read)?;
        selector.parse::<Selector>().and_then(|s| s.select(&*host.world.disks)).map_err(raise)
    }

    /// The disk with exactly this serial number.
    #[rhai_fn(return_raw)]
    pub fn by_serial(context: NativeCallContext, serial: &str) -> Outcome<Disk> {
        select(context, &format!("serial:{serial}"))
    }

    /// The disk with this world-wide name.
    #[rhai_fn(return_raw)]
    pub fn by_wwn(context: NativeCallContext, wwn: &str) -> Outcome<Disk> {
        select(context, &format!("wwn:{wwn}"))
    }

    /// The one disk for which `filter` is true. Fails with the candidates when there is none or
    /// more than one, and when the disk has neither serial number nor world-wide name: it could be
    /// another one tomorrow.
    #[rhai_fn(return_raw)]
    pub fn only(context: NativeCallContext, filter: FnPtr) -> Outcome<Disk> {
        let disks =
            ScriptContext::of(&context, Capability::Read)?.world.disks.list().map_err(raise)?;
        let mut found = Vec::new();
        for disk in &disks {
            if filter.call_within_context::<bool>(&context, (disk.clone(),))? {
                found.push(disk.clone());
            }
        }
        // the filter may have called others
        ScriptContext::behind(&context)?;
        let refuse = |message: String, candidates: &[Disk]| {
            let lines = candidates.iter().map(|disk| format!("\n  {}", disk.summary()));
            let hint = format!("choose by something else; there are:{}", lines.collect::<String>());
            Err(raise(Error::new(ErrorKind::Refused, message).hint(hint)))
        };
        match found.as_slice() {
            [] => refuse("no disk is as wanted".into(), &disks),
            [one] if one.serial.is_none() && one.wwn.is_none() => refuse(
                format!("{} has neither serial number nor world-wide name", one.path.display()),
                &found,
            ),
            [one] => Ok(one.clone()),
            many => refuse(format!("{} disks are as wanted, not one", many.len()), many),
        }
    }

    /// The same as `select`, but waits up to `seconds` for the disk to appear: USB disks come late.
    #[rhai_fn(return_raw)]
    pub fn wait(context: NativeCallContext, selector: &str, seconds: INT) -> Outcome<Disk> {
        let host = ScriptContext::of(&context, Capability::Read)?;
        let selector: Selector = selector.parse().map_err(raise)?;
        let cancel = host.meter.operation();
        let mut left = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let mut is_told = false;
        loop {
            match selector.select(&*host.world.disks) {
                Ok(disk) => return Ok(disk),
                // more than one match is no matter of time
                Err(error) if left.is_zero() || error.to_string().contains(" disks match ") => {
                    return Err(raise(error));
                }
                Err(_) if !is_told => {
                    is_told = true;
                    host.world
                        .terminal
                        .say(&format!("waiting up to {seconds} s for the disk {selector}"));
                }
                Err(_) => {}
            }
            let step = left.min(LOOK_EVERY);
            host.world.machine.sleep(step, &cancel).map_err(raise)?;
            left -= step;
        }
    }

    /// Creates the file `path` of `size`, to be used as a disk: for images of virtual machines and
    /// for backups. Fails when it is there already.
    #[rhai_fn(return_raw)]
    pub fn create_file(context: NativeCallContext, path: &str, size: Dynamic) -> Outcome<Disk> {
        let host = ScriptContext::of(&context, Capability::Flash)?;
        let size = Size::from_dynamic(&size).map_err(|mut error| {
            error.set_position(context.call_position());
            error
        })?;
        host.world.flasher.create(path.as_ref(), size.0).map_err(raise)
    }

    /// Device node or file: `/dev/nvme0n1`.
    #[rhai_fn(global, get = "path", pure)]
    pub fn path(disk: &mut Disk) -> String {
        bty::text::path_reference(&disk.path)
    }

    /// `disk`, `loop`, `partition`, `file` or `other`.
    #[rhai_fn(global, get = "kind", pure, return_raw)]
    pub fn kind(disk: &mut Disk) -> Outcome<Dynamic> {
        from_rust(&disk.kind)
    }

    /// Its size.
    #[rhai_fn(global, get = "size_bytes", pure)]
    pub fn size_bytes(disk: &mut Disk) -> Size {
        Size(disk.size_bytes)
    }

    /// Bytes in a logical sector: 512 or 4096.
    #[rhai_fn(global, get = "logical_sector_bytes", pure)]
    pub fn logical_sector_bytes(disk: &mut Disk) -> INT {
        disk.logical_sector_bytes.into()
    }

    /// Vendor; `()` when the disk does not tell.
    #[rhai_fn(global, get = "vendor", pure)]
    pub fn vendor(disk: &mut Disk) -> Dynamic {
        text(disk.vendor.as_ref())
    }

    /// Model; `()` when the disk does not tell.
    #[rhai_fn(global, get = "model", pure)]
    pub fn model(disk: &mut Disk) -> Dynamic {
        text(disk.model.as_ref())
    }

    /// Serial number; `()` when the disk does not tell.
    #[rhai_fn(global, get = "serial", pure)]
    pub fn serial(disk: &mut Disk) -> Dynamic {
        text(disk.serial.as_ref())
    }

    /// World-wide name; `()` when the disk does not tell.
    #[rhai_fn(global, get = "wwn", pure)]
    pub fn wwn(disk: &mut Disk) -> Dynamic {
        text(disk.wwn.as_ref())
    }

    /// `nvme`, `sata`, `usb`, `virtio`, `loop`, `file` …; `()` when it is not known.
    #[rhai_fn(global, get = "transport", pure)]
    pub fn transport(disk: &mut Disk) -> Dynamic {
        text(disk.transport.as_ref())
    }

    /// True when the medium can be taken out.
    #[rhai_fn(global, get = "is_removable", pure)]
    pub fn is_removable(disk: &mut Disk) -> bool {
        disk.is_removable
    }

    /// True when the kernel refuses to write.
    #[rhai_fn(global, get = "is_read_only", pure)]
    pub fn is_read_only(disk: &mut Disk) -> bool {
        disk.is_read_only
    }

    /// True for a spinning disk, false for others; `()` when it is not known.
    #[rhai_fn(global, get = "is_rotational", pure)]
    pub fn is_rotational(disk: &mut Disk) -> Dynamic {
        disk.is_rotational.map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// True when somebody uses it: mounted, swap, held by another device. Such a disk is not
    /// written to.
    #[rhai_fn(global, get = "is_used", pure)]
    pub fn is_used(disk: &mut Disk) -> bool {
        !disk.uses.is_empty()
    }

    /// Who uses it, as texts that name the way out.
    #[rhai_fn(global, get = "uses", pure)]
    pub fn uses(disk: &mut Disk) -> Array {
        disk.uses.iter().map(|usage| usage.to_string().into()).collect()
    }

    /// Its partitions, as maps: `number`, `start_bytes`, `size_bytes`, `name`, `type_id`,
    /// `content`.
    #[rhai_fn(global, get = "partitions", pure, return_raw)]
    pub fn partitions(disk: &mut Disk) -> Outcome<Dynamic> {
        from_rust(&disk.partitions)
    }

    /// What is on it now, in one line.
    #[rhai_fn(global, get = "contents", pure)]
    pub fn contents(disk: &mut Disk) -> String {
        disk.contents()
    }

    /// Path, size, model and serial number in one line.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn to_string(disk: &mut Disk) -> String {
        disk.summary()
    }

    /// True for the same piece of hardware in the same state of attachment.
    #[rhai_fn(global, name = "==")]
    pub fn equal(a: Disk, b: Disk) -> bool {
        a.is_same_disk(&b)
    }
}
