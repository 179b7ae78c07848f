//! Converts values between Rust, JSON and scripts without losing digits.

use bty::catalog::{Catalog, Entry};
use bty::flash::{FlashReport, VerifyReport};
use bty::image::directory::ImageFile;
use bty::{Disk, size};
use rhai::{Array, Blob, Dynamic, FLOAT, INT, Map};
use serde::Serialize;
use serde_json::Value;

use crate::error::{CallResult, HostError, raise_unplaced};
use crate::machine::PlanMachine;
use crate::test_run::TestRun;
use crate::world::{Image, PlannedFlash};

/// A number of bytes with 64 bits; integers of scripts are signed and have one less. Displays in a
/// readable unit: `465.8 GiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&size::human(self.0))
    }
}

impl Size {
    /// Converts an argument to a size: a size, a number of bytes, or a string such as `"4G"`.
    pub(crate) fn from_dynamic(value: &Dynamic) -> CallResult<Self> {
        if let Some(size) = value.read_lock::<Self>() {
            return Ok(*size);
        }
        if let Ok(bytes) = value.as_int() {
            return Self::from_int(bytes);
        }
        if let Ok(bytes) = value.as_float() {
            return Self::from_float(bytes);
        }
        match value.read_lock::<rhai::ImmutableString>() {
            Some(text) => size::parse(&text).map(Self).map_err(raise_unplaced),
            None => Err(raise_unplaced(HostError::usage(format!(
                "cannot convert a value of type {} to a size",
                bare_type_name(value)
            )))),
        }
    }

    /// Converts only numbers that a size holds exactly.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the range is checked
    fn from_float(bytes: FLOAT) -> CallResult<Self> {
        /// 2^64, the first float that does not fit.
        const END: FLOAT = 18_446_744_073_709_551_616.0;
        if bytes.fract() == 0.0 && (0.0..END).contains(&bytes) {
            return Ok(Self(bytes as u64));
        }
        let message =
            format!("cannot convert {bytes} to a size: it is not a whole number of bytes");
        Err(raise_unplaced(HostError::usage(message).hint("round it: (x).floor()")))
    }

    pub(crate) fn from_int(bytes: INT) -> CallResult<Self> {
        u64::try_from(bytes).map(Self).map_err(|_| {
            raise_unplaced(HostError::usage(format!("a size cannot be negative: {bytes}")))
        })
    }

    pub(crate) fn to_int(self) -> CallResult<INT> {
        INT::try_from(self.0).map_err(|_| {
            let message = format!("{} bytes do not fit into an integer", self.0);
            raise_unplaced(
                HostError::usage(message).hint("calculate with the size instead of .bytes"),
            )
        })
    }
}

/// Converts a Rust value for scripts. Fields whose names end in `_bytes`, and `offset`, become
/// sizes.
pub(crate) fn from_rust<T: Serialize + ?Sized>(value: &T) -> CallResult<Dynamic> {
    let value = serde_json::to_value(value)
        .map_err(|e| raise_unplaced(HostError::new("host", e.to_string())))?;
    Ok(from_json(&value, true))
}

/// Converts JSON for scripts. A number that does not fit into an integer becomes a size; with
/// `with_sizes`, so do the fields of [`from_rust`].
pub(crate) fn from_json(value: &Value, with_sizes: bool) -> Dynamic {
    named(value, "", with_sizes)
}

fn named(value: &Value, name: &str, with_sizes: bool) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(is) => (*is).into(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(bytes), _) if with_sizes && (name.ends_with("_bytes") || name == "offset") => {
                Dynamic::from(Size(bytes))
            }
            (_, Some(int)) => int.into(),
            (Some(large), None) => Dynamic::from(Size(large)),
            (None, None) => number.as_f64().unwrap_or_default().into(),
        },
        Value::String(text) => text.clone().into(),
        Value::Array(items) => {
            items.iter().map(|item| named(item, name, with_sizes)).collect::<Array>().into()
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.as_str().into(), named(value, name, with_sizes)));
            fields.collect::<Map>().into()
        }
    }
}

/// Converts a value of a script to JSON.
pub(crate) fn to_json(value: &Dynamic) -> CallResult<Value> {
    if let Some(fields) = value.read_lock::<Map>() {
        let fields = fields.iter().map(|(name, value)| Ok((name.to_string(), to_json(value)?)));
        return Ok(Value::Object(fields.collect::<CallResult<_>>()?));
    }
    if let Some(items) = value.read_lock::<Array>() {
        return Ok(Value::Array(items.iter().map(to_json).collect::<CallResult<_>>()?));
    }
    if let Some(json) = typed_json(value) {
        return Ok(json);
    }
    if let Some(text) = value.read_lock::<rhai::ImmutableString>() {
        return Ok(Value::String(text.to_string()));
    }
    if let Ok(int) = value.as_int() {
        return Ok(int.into());
    }
    if let Ok(float) = value.as_float() {
        return serde_json::Number::from_f64(float).map(Value::Number).ok_or_else(|| {
            raise_unplaced(HostError::usage(format!("cannot convert {float} to JSON")))
        });
    }
    if let Ok(is) = value.as_bool() {
        return Ok(is.into());
    }
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(character) = value.as_char() {
        return Ok(Value::String(character.to_string()));
    }
    if let Some(bytes) = value.read_lock::<Blob>() {
        return Ok(bytes.as_slice().into());
    }
    if let Some(run) = value.read_lock::<TestRun>() {
        return test_run_json(&run);
    }
    if let Some(machine) = value.read_lock::<PlanMachine>() {
        return machine_json(&machine);
    }
    Err(raise_unplaced(HostError::usage(format!(
        "cannot convert a value of type {} to JSON",
        bare_type_name(value)
    ))))
}

fn test_run_json(run: &TestRun) -> CallResult<Value> {
    let record = run.record();
    let value =
        record.result.as_ref().map_or(Ok(Value::Null), |outcome| to_json(&outcome.value))?;
    Ok(serde_json::json!({
        "effects": record.effects, "flashed": run.flashed(), "printed": record.printed,
        "shown": record.transcript, "exit_code": run.exit_code(), "value": value,
        "error": record.result.as_ref().err().map(crate::error::ScriptError::to_json),
    }))
}

/// The facts of a machine, with the state as the plan has set it.
fn machine_json(machine: &PlanMachine) -> CallResult<Value> {
    let (mut facts, state) = machine.with(|data| (data.facts.clone(), data.state.clone()));
    facts.state = to_json(&state)?;
    serde_json::to_value(facts).map_err(|e| raise_unplaced(HostError::new("host", e.to_string())))
}

/// The name of a type without its path, for messages.
pub(crate) fn bare_type_name(value: &Dynamic) -> &'static str {
    value.type_name().rsplit("::").next().unwrap_or_default()
}

/// Converts a value of one of bty's types to JSON; `None` for other types.
pub(crate) fn typed_json(value: &Dynamic) -> Option<Value> {
    fn of<T: Serialize>(value: &T) -> Option<Value> {
        serde_json::to_value(value).ok()
    }
    if let Some(size) = value.read_lock::<Size>() {
        return Some(size.0.into());
    }
    macro_rules! serialized {
        ($($type:ty),+) => {
            $(if let Some(value) = value.read_lock::<$type>() {
                return of(&*value);
            })+
        };
    }
    serialized!(Disk, Catalog, Entry, ImageFile, FlashReport, VerifyReport);
    if let Some(planned) = value.read_lock::<PlannedFlash>() {
        return of(&planned.plan);
    }
    if let Some(image) = value.read_lock::<Image>() {
        return of(&*image.info);
    }
    let error = value.read_lock::<HostError>()?;
    Some(serde_json::json!({
        "kind": error.kind, "message": error.message, "path": error.path, "offset": error.offset,
        "hint": error.hint, "remedy": error.remedy, "report": error.report,
        "has_written": error.has_written,
    }))
}
