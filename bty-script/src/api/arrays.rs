//! Functions of the language that call a function for each item, with its answer taken at its word.
//!
//! The language's own take an answer of another type for `false`, and `sort` even takes a failure
//! for "equal": a script would go on with the wrong item. Here both end the script.

use std::cmp::Ordering;

use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, INT, Map, NativeCallContext};

use crate::convert::Size;
use crate::error::{HostError, Outcome, raise_unplaced};

type Context<'a> = NativeCallContext<'a>;

/// Calls `function` in each of `ways` until one has as many parameters as it has.
fn call<const N: usize>(
    context: &Context<'_>,
    name: &str,
    function: &FnPtr,
    item: &mut Dynamic,
    ways: [Vec<Dynamic>; N],
) -> Outcome<Dynamic> {
    let mut result = function.call_raw(context, Some(item), &mut [][..]);
    for mut args in ways {
        let is_missing = |error: &EvalAltResult| matches!(error, EvalAltResult::ErrorFunctionNotFound(signature, _) if signature.starts_with(function.fn_name()));
        match result {
            Err(error) if is_missing(&error) => {
                result = function.call_raw(context, None, &mut args[..]);
            }
            _ => break,
        }
    }
    result.map_err(|error| within(context, name, error))
}

/// An error inside of the function that was given to `name`.
fn within(context: &Context<'_>, name: &str, error: Box<EvalAltResult>) -> Box<EvalAltResult> {
    let source = context.call_source().unwrap_or_default().to_owned();
    EvalAltResult::ErrorInFunctionCall(name.to_owned(), source, error, Position::NONE).into()
}

/// What a function said that must say true or false.
fn truth(context: &Context<'_>, name: &str, answer: &Dynamic) -> Outcome<bool> {
    answer.as_bool().map_err(|_| {
        let message =
            format!("the function given to {name}() gave {}", super::type_name(context, answer));
        raise_unplaced(HostError::usage(message).hint("it has to give true or false"))
    })
}

/// Asks `function` about the item at `index` of an array.
fn ask(
    context: &Context<'_>,
    name: &str,
    function: &FnPtr,
    item: &mut Dynamic,
    index: usize,
) -> Outcome<bool> {
    let (copy, index) = (item.clone(), Dynamic::from(INT::try_from(index).unwrap_or(INT::MAX)));
    let answer = call(context, name, function, item, [vec![copy.clone()], vec![copy, index]])?;
    truth(context, name, &answer)
}

/// The index of the first item from `start` about which `function` says `wanted`.
fn position(
    context: &Context<'_>,
    name: &str,
    array: &mut Array,
    function: &FnPtr,
    start: INT,
    wanted: bool,
) -> Outcome<Option<usize>> {
    let from_end =
        || array.len().saturating_sub(usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX));
    let start = usize::try_from(start).unwrap_or_else(|_| from_end());
    for (index, item) in array.iter_mut().enumerate().skip(start) {
        if ask(context, name, function, item, index)? == wanted {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Items about which `function` says true, and the others.
fn partition(
    context: &Context<'_>,
    name: &str,
    array: &mut Array,
    function: &FnPtr,
) -> Outcome<(Array, Array)> {
    let (mut yes, mut no) = (Array::new(), Array::new());
    for (index, item) in array.iter_mut().enumerate() {
        let is_wanted = ask(context, name, function, item, index)?;
        if is_wanted { &mut yes } else { &mut no }.push(item.clone());
    }
    Ok((yes, no))
}

/// The same for a map.
fn partition_map(
    context: &Context<'_>,
    name: &str,
    map: &mut Map,
    function: &FnPtr,
) -> Outcome<(Map, Map)> {
    let (mut yes, mut no) = (Map::new(), Map::new());
    for (key, value) in map.iter_mut() {
        let (named, copy) = (Dynamic::from(key.clone()), value.clone());
        let with_this = function.call_raw(context, Some(value), &mut [named.clone()][..]);
        let answer = match with_this {
            Err(error) if matches!(*error, EvalAltResult::ErrorFunctionNotFound(..)) => {
                function.call_raw(context, None, &mut [named, copy][..])
            }
            other => other,
        };
        let is_wanted =
            truth(context, name, &answer.map_err(|error| within(context, name, error))?)?;
        if is_wanted { &mut yes } else { &mut no }.insert(key.clone(), value.clone());
    }
    Ok((yes, no))
}

/// How `comparer` orders two items: by the sign of a number or a size, or by whether the first
/// belongs before the second.
fn compare(context: &Context<'_>, comparer: &FnPtr, a: &Dynamic, b: &Dynamic) -> Outcome<Ordering> {
    let answer = comparer.call_raw(context, None, &mut [a.clone(), b.clone()][..]);
    let answer = answer.map_err(|error| within(context, "sort", error))?;
    if let Ok(sign) = answer.as_int() {
        return Ok(sign.cmp(&0));
    }
    if let Some(size) = answer.read_lock::<Size>() {
        return Ok(size.0.cmp(&0));
    }
    if let Some(sign) = answer.as_float().ok().and_then(|sign| sign.partial_cmp(&0.0)) {
        return Ok(sign);
    }
    if let Ok(is_before) = answer.as_bool() {
        return Ok(if is_before { Ordering::Less } else { Ordering::Greater });
    }
    let message =
        format!("the function given to sort() gave {}", super::type_name(context, &answer));
    Err(raise_unplaced(
        HostError::usage(message)
            .hint("it has to give a number: below 0, 0 or above 0; or true or false"),
    ))
}

/// A merge sort: unlike that of the standard library it can end with an error, and a comparer
/// without sense does no harm to it.
fn sorted(context: &Context<'_>, array: &[Dynamic], comparer: &FnPtr) -> Outcome<Array> {
    if array.len() < 2 {
        return Ok(array.to_vec());
    }
    let (left, right) = array.split_at(array.len() / 2);
    let (left, right) = (sorted(context, left, comparer)?, sorted(context, right, comparer)?);
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let mut merged = Array::with_capacity(array.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let takes_right = compare(context, comparer, a, b)?.is_gt();
        merged.extend(if takes_right { right.next() } else { left.next() });
    }
    merged.extend(left.chain(right));
    Ok(merged)
}

/// Sorts, and looks whether the comparer stands by what it said: `|a, b| a.size_bytes` compares
/// nothing.
fn checked_sort(context: &Context<'_>, array: &[Dynamic], comparer: &FnPtr) -> Outcome<Array> {
    let sorted = sorted(context, array, comparer)?;
    for pair in sorted.windows(2) {
        let is_before = |a: usize, b: usize| compare(context, comparer, &pair[a], &pair[b]);
        // false for both ways is how `a < b` says that they are equal
        let answer = is_before(0, 1)?;
        if answer.is_gt() && !(is_bool(context, comparer, pair)? && is_before(1, 0)?.is_gt()) {
            let error = HostError::usage("the function given to sort() contradicts itself");
            return Err(raise_unplaced(
                error.hint("it has to compare its two values: |a, b| a.size_bytes - b.size_bytes"),
            ));
        }
    }
    Ok(sorted)
}

fn is_bool(context: &Context<'_>, comparer: &FnPtr, pair: &[Dynamic]) -> Outcome<bool> {
    Ok(comparer.call_raw(context, None, &mut [pair[0].clone(), pair[1].clone()][..])?.is_bool())
}

/// Removes items that `comparer` calls equal to the one before.
fn without_repetitions(context: &Context<'_>, array: &mut Array, comparer: &FnPtr) -> Outcome<()> {
    let mut kept: Array = Array::with_capacity(array.len());
    for item in array.iter() {
        if let Some(last) = kept.last() {
            let answer = comparer.call_raw(context, None, &mut [last.clone(), item.clone()][..]);
            if truth(context, "dedup", &answer.map_err(|error| within(context, "dedup", error))?)? {
                continue;
            }
        }
        kept.push(item.clone());
    }
    *array = kept;
    Ok(())
}

#[export_module]
pub(super) mod functions {
    /// Sorts an array by a function that compares two of its items.
    #[rhai_fn(name = "sort", name = "sort_by", return_raw)]
    pub fn sort(context: NativeCallContext, array: &mut Array, comparer: FnPtr) -> Outcome<()> {
        *array = checked_sort(&context, array, &comparer)?;
        Ok(())
    }

    /// A sorted copy of an array.
    #[rhai_fn(name = "order", name = "order_by", return_raw, pure)]
    pub fn order(context: NativeCallContext, array: &mut Array, comparer: FnPtr) -> Outcome<Array> {
        checked_sort(&context, array, &comparer)
    }

    /// The items of an array for which a function is true.
    #[rhai_fn(name = "filter", return_raw, pure)]
    pub fn filter(context: NativeCallContext, array: &mut Array, filter: FnPtr) -> Outcome<Array> {
        Ok(partition(&context, "filter", array, &filter)?.0)
    }

    /// Takes the items out of an array for which a function is true.
    #[rhai_fn(name = "drain", return_raw)]
    pub fn drain(context: NativeCallContext, array: &mut Array, filter: FnPtr) -> Outcome<Array> {
        let (taken, kept) = partition(&context, "drain", array, &filter)?;
        *array = kept;
        Ok(taken)
    }

    /// Takes the items out of an array for which a function is false.
    #[rhai_fn(name = "retain", return_raw)]
    pub fn retain(context: NativeCallContext, array: &mut Array, filter: FnPtr) -> Outcome<Array> {
        let (kept, taken) = partition(&context, "retain", array, &filter)?;
        *array = kept;
        Ok(taken)
    }

    /// The index of the first item for which a function is true, or -1.
    #[rhai_fn(name = "index_of", return_raw, pure)]
    pub fn index_of(context: NativeCallContext, array: &mut Array, filter: FnPtr) -> Outcome<INT> {
        index_of_from(context, array, filter, 0)
    }

    /// The index of the first item from an index on for which a function is true, or -1.
    #[rhai_fn(name = "index_of", return_raw, pure)]
    pub fn index_of_from(
        context: NativeCallContext,
        array: &mut Array,
        filter: FnPtr,
        start: INT,
    ) -> Outcome<INT> {
        let found = position(&context, "index_of", array, &filter, start, true)?;
        Ok(found.map_or(-1, |index| INT::try_from(index).unwrap_or(INT::MAX)))
    }

    /// The first item for which a function is true, or `()`.
    #[rhai_fn(name = "find", return_raw, pure)]
    pub fn find(context: NativeCallContext, array: &mut Array, filter: FnPtr) -> Outcome<Dynamic> {
        find_from(context, array, filter, 0)
    }

    /// The first item from an index on for which a function is true, or `()`.
    #[rhai_fn(name = "find", return_raw, pure)]
    pub fn find_from(
        context: NativeCallContext,
        array: &mut Array,
        filter: FnPtr,
        start: INT,
    ) -> Outcome<Dynamic> {
        let found = position(&context, "find", array, &filter, start, true)?;
        Ok(found.and_then(|index| array.get(index).cloned()).unwrap_or(Dynamic::UNIT))
    }

    /// True when a function is true for an item of an array.
    #[rhai_fn(name = "some", return_raw, pure)]
    pub fn some(context: NativeCallContext, array: &mut Array, filter: FnPtr) -> Outcome<bool> {
        Ok(position(&context, "some", array, &filter, 0, true)?.is_some())
    }

    /// True when a function is true for all items of an array.
    #[rhai_fn(name = "all", return_raw, pure)]
    pub fn all(context: NativeCallContext, array: &mut Array, filter: FnPtr) -> Outcome<bool> {
        Ok(position(&context, "all", array, &filter, 0, false)?.is_none())
    }

    /// Removes items that are equal to the one before.
    #[rhai_fn(name = "dedup", return_raw)]
    pub fn dedup(context: NativeCallContext, array: &mut Array) -> Outcome<()> {
        let mut kept: Array = Array::with_capacity(array.len());
        for item in array.iter() {
            let is_repeated = match kept.last() {
                Some(last) => context.call_native_fn::<bool>("==", (last.clone(), item.clone()))?,
                None => false,
            };
            if !is_repeated {
                kept.push(item.clone());
            }
        }
        *array = kept;
        Ok(())
    }

    /// Removes items that a function calls equal to the one before.
    #[rhai_fn(name = "dedup", return_raw)]
    pub fn dedup_by(context: NativeCallContext, array: &mut Array, comparer: FnPtr) -> Outcome<()> {
        without_repetitions(&context, array, &comparer)
    }

    /// The entries of a map for which a function of key and value is true.
    #[rhai_fn(name = "filter", return_raw, pure)]
    pub fn filter_map(context: NativeCallContext, map: &mut Map, filter: FnPtr) -> Outcome<Map> {
        Ok(partition_map(&context, "filter", map, &filter)?.0)
    }

    /// Takes the entries out of a map for which a function of key and value is true.
    #[rhai_fn(name = "drain", return_raw)]
    pub fn drain_map(context: NativeCallContext, map: &mut Map, filter: FnPtr) -> Outcome<Map> {
        let (taken, kept) = partition_map(&context, "drain", map, &filter)?;
        *map = kept;
        Ok(taken)
    }

    /// Takes the entries out of a map for which a function of key and value is false.
    #[rhai_fn(name = "retain", return_raw)]
    pub fn retain_map(context: NativeCallContext, map: &mut Map, filter: FnPtr) -> Outcome<Map> {
        let (kept, taken) = partition_map(&context, "retain", map, &filter)?;
        *map = kept;
        Ok(taken)
    }

    // a function may also be named by a text

    #[rhai_fn(name = "sort", return_raw)]
    pub fn sort_named(
        context: NativeCallContext,
        array: &mut Array,
        comparer: &str,
    ) -> Outcome<()> {
        sort(context, array, FnPtr::new(comparer)?)
    }

    #[rhai_fn(name = "filter", return_raw, pure)]
    pub fn filter_named(
        context: NativeCallContext,
        array: &mut Array,
        filter: &str,
    ) -> Outcome<Array> {
        functions::filter(context, array, FnPtr::new(filter)?)
    }

    #[rhai_fn(name = "drain", return_raw)]
    pub fn drain_named(
        context: NativeCallContext,
        array: &mut Array,
        filter: &str,
    ) -> Outcome<Array> {
        drain(context, array, FnPtr::new(filter)?)
    }

    #[rhai_fn(name = "retain", return_raw)]
    pub fn retain_named(
        context: NativeCallContext,
        array: &mut Array,
        filter: &str,
    ) -> Outcome<Array> {
        retain(context, array, FnPtr::new(filter)?)
    }

    #[rhai_fn(name = "some", return_raw, pure)]
    pub fn some_named(
        context: NativeCallContext,
        array: &mut Array,
        filter: &str,
    ) -> Outcome<bool> {
        some(context, array, FnPtr::new(filter)?)
    }

    #[rhai_fn(name = "all", return_raw, pure)]
    pub fn all_named(context: NativeCallContext, array: &mut Array, filter: &str) -> Outcome<bool> {
        all(context, array, FnPtr::new(filter)?)
    }

    #[rhai_fn(name = "dedup", return_raw)]
    pub fn dedup_named(
        context: NativeCallContext,
        array: &mut Array,
        comparer: &str,
    ) -> Outcome<()> {
        dedup_by(context, array, FnPtr::new(comparer)?)
    }
}
