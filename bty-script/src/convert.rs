//! Values between Rust and scripts, without a lost bit.

use bty::catalog::Entry;
use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::image::directory::ImageFile;
use bty::{Disk, size};
use rhai::{Array, Dynamic, INT, Map};
use serde::Serialize;
use serde_json::Value;

use crate::error::{HostError, Outcome, raise_unplaced};
use crate::world::Image;

/// A number of bytes: all 64 bits of it, which a script's integers do not have. Prints as people
/// read it: `465.8 GiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&size::human(self.0))
    }
}

impl Size {
    /// From what a script gave where a size is wanted: a size, a number of bytes, or text such as
    /// `"4G"`.
    pub(crate) fn from_dynamic(value: &Dynamic) -> Outcome<Self> {
        if let Some(size) = value.read_lock::<Self>() {
            return Ok(*size);
        }
        if let Ok(bytes) = value.as_int() {
            return Self::from_int(bytes);
        }
        match value.read_lock::<rhai::ImmutableString>() {
            Some(text) => size::parse(&text).map(Self).map_err(raise_unplaced),
            None => {
                Err(raise_unplaced(HostError::usage(format!("{} is no size", value.type_name()))))
            }
        }
    }

    pub(crate) fn from_int(bytes: INT) -> Outcome<Self> {
        u64::try_from(bytes).map(Self).map_err(|_| {
            raise_unplaced(HostError::usage(format!("a size cannot be negative: {bytes}")))
        })
    }

    pub(crate) fn to_int(self) -> Outcome<INT> {
        INT::try_from(self.0).map_err(|_| {
            let message = format!("{} bytes are more than an integer holds", self.0);
            raise_unplaced(HostError::usage(message).hint("calculate with the size itself"))
        })
    }
}

/// A Rust value as a script sees it: fields whose names end in `_bytes`, and `offset`, are sizes.
pub(crate) fn from_rust<T: Serialize + ?Sized>(value: &T) -> Outcome<Dynamic> {
    let value = serde_json::to_value(value)
        .map_err(|e| raise_unplaced(HostError::new("host", e.to_string())))?;
    Ok(from_json(&value, true))
}

/// JSON as a script sees it. A number beyond an integer's range is a size.
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

/// A script's value as JSON.
pub(crate) fn to_json(value: &Dynamic) -> Outcome<Value> {
    if let Some(fields) = value.read_lock::<Map>() {
        let fields = fields.iter().map(|(name, value)| Ok((name.to_string(), to_json(value)?)));
        return Ok(Value::Object(fields.collect::<Outcome<_>>()?));
    }
    if let Some(items) = value.read_lock::<Array>() {
        return Ok(Value::Array(items.iter().map(to_json).collect::<Outcome<_>>()?));
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
        return Ok(float.into());
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
    let what = value.type_name().rsplit("::").next().unwrap_or_default().to_owned();
    Err(raise_unplaced(HostError::usage(format!("a value of type {what} cannot be sent as JSON"))))
}

/// The host's own types as JSON.
pub(crate) fn typed_json(value: &Dynamic) -> Option<Value> {
    fn of<T: Serialize>(value: &T) -> Option<Value> {
        serde_json::to_value(value).ok()
    }
    if let Some(size) = value.read_lock::<Size>() {
        return Some(size.0.into());
    }
    macro_rules! serialised {
        ($($type:ty),+) => { $(if let Some(value) = value.read_lock::<$type>() { return of(&*value); })+ };
    }
    serialised!(Disk, Entry, ImageFile, FlashPlan, FlashReport, VerifyReport);
    if let Some(image) = value.read_lock::<Image>() {
        return of(&*image.info);
    }
    let error = value.read_lock::<HostError>()?;
    Some(serde_json::json!({
        "kind": error.kind, "message": error.message, "path": error.path, "offset": error.offset,
        "hint": error.hint, "report": error.report, "has_written": error.has_written,
    }))
}
