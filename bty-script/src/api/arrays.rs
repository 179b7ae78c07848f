//! Replaces rhai's functions that take a callback, such as `filter` and `sort`, by strict ones.
//!
//! Rhai treats a callback result of the wrong type as `false`, and `sort` treats a failing callback
//! as "equal": a script would go on with the wrong item. Here both fail.

use std::cmp::Ordering;

use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, INT, Map, NativeCallContext};

use crate::convert::Size;
use crate::error::{CallResult, HostError, raise_unplaced};

type Context<'a> = NativeCallContext<'a>;

/// Calls `function` with the item as `this`, then with each of `argument_lists`, until one has the
/// number of parameters that the function takes.
fn invoke<const N: usize>(
    call: &Context<'_>,
    name: &str,
    function: &FnPtr,
    item: &mut Dynamic,
    argument_lists: [Vec<Dynamic>; N],
) -> CallResult<Dynamic> {
    let mut result = function.call_raw(call, Some(item), &mut [][..]);
    for mut args in argument_lists {
        let is_missing = |error: &EvalAltResult| match error {
            EvalAltResult::ErrorFunctionNotFound(signature, _) => {
                signature.starts_with(function.fn_name())
            }
            _ => false,
        };
        match result {
            Err(error) if is_missing(&error) => {
                result = function.call_raw(call, None, &mut args[..]);
            }
            _ => break,
        }
    }
    result.map_err(|error| in_callback(call, name, error))
}

/// Wraps an error of the callback of `name`.
fn in_callback(call: &Context<'_>, name: &str, error: Box<EvalAltResult>) -> Box<EvalAltResult> {
    let source = call.call_source().unwrap_or_default().to_owned();
    EvalAltResult::ErrorInFunctionCall(name.to_owned(), source, error, Position::NONE).into()
}

/// The boolean that a callback returned.
fn expect_bool(call: &Context<'_>, name: &str, answer: &Dynamic) -> CallResult<bool> {
    answer.as_bool().map_err(|_| {
        let message =
            format!("the callback of {name}() returned {}", super::type_name(call, answer));
        raise_unplaced(HostError::usage(message).hint("it has to return true or false"))
    })
}

/// Calls the predicate `function` for the item at `index` of an array.
fn test_item(
    call: &Context<'_>,
    name: &str,
    function: &FnPtr,
    item: &mut Dynamic,
    index: usize,
) -> CallResult<bool> {
    let (copy, index) = (item.clone(), Dynamic::from(INT::try_from(index).unwrap_or(INT::MAX)));
    let answer = invoke(call, name, function, item, [vec![copy.clone()], vec![copy, index]])?;
    expect_bool(call, name, &answer)
}

/// The index of the first item from `start` for which `function` returns `expected`.
fn position(
    call: &Context<'_>,
    name: &str,
    array: &mut Array,
    function: &FnPtr,
    start: INT,
    expected: bool,
) -> CallResult<Option<usize>> {
    let from_end =
        || array.len().saturating_sub(usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX));
    let start = usize::try_from(start).unwrap_or_else(|_| from_end());
    for (index, item) in array.iter_mut().enumerate().skip(start) {
        if test_item(call, name, function, item, index)? == expected {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Splits the items by whether `function` returns true.
fn partition(
    call: &Context<'_>,
    name: &str,
    array: &mut Array,
    function: &FnPtr,
) -> CallResult<(Array, Array)> {
    let (mut yes, mut no) = (Array::new(), Array::new());
    for (index, item) in array.iter_mut().enumerate() {
        let is_wanted = test_item(call, name, function, item, index)?;
        if is_wanted { &mut yes } else { &mut no }.push(item.clone());
    }
    Ok((yes, no))
}

/// Splits the entries of a map by whether `function` returns true.
fn partition_map(
    call: &Context<'_>,
    name: &str,
    map: &mut Map,
    function: &FnPtr,
) -> CallResult<(Map, Map)> {
    let (mut yes, mut no) = (Map::new(), Map::new());
    for (key, value) in map.iter_mut() {
        let (named, copy) = (Dynamic::from(key.clone()), value.clone());
        let with_this = function.call_raw(call, Some(value), &mut [named.clone()][..]);
        let answer = match with_this {
            Err(error) if matches!(*error, EvalAltResult::ErrorFunctionNotFound(..)) => {
                function.call_raw(call, None, &mut [named, copy][..])
            }
            other => other,
        };
        let is_wanted =
            expect_bool(call, name, &answer.map_err(|error| in_callback(call, name, error))?)?;
        if is_wanted { &mut yes } else { &mut no }.insert(key.clone(), value.clone());
    }
    Ok((yes, no))
}

/// How `comparer` orders two items: by the sign of the number it returns, or, for a boolean, by
/// whether the first item comes before the second.
fn compare(call: &Context<'_>, comparer: &FnPtr, a: &Dynamic, b: &Dynamic) -> CallResult<Ordering> {
    let answer = comparer.call_raw(call, None, &mut [a.clone(), b.clone()][..]);
    let answer = answer.map_err(|error| in_callback(call, "sort", error))?;
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
    let message = format!("the callback of sort() returned {}", super::type_name(call, &answer));
    Err(raise_unplaced(
        HostError::usage(message)
            .hint("it has to return a number (below 0, 0 or above 0), or true or false"),
    ))
}

/// Merge sort. Unlike the standard library's it can return an error, and an inconsistent comparer
/// cannot make it panic.
fn sorted(
    array: &[Dynamic],
    compare: &mut dyn FnMut(&Dynamic, &Dynamic) -> CallResult<Ordering>,
) -> CallResult<Array> {
    if array.len() < 2 {
        return Ok(array.to_vec());
    }
    let (left, right) = array.split_at(array.len() / 2);
    let (left, right) = (sorted(left, compare)?, sorted(right, compare)?);
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let mut merged = Array::with_capacity(array.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let takes_right = compare(a, b)?.is_gt();
        merged.extend(if takes_right { right.next() } else { left.next() });
    }
    merged.extend(left.chain(right));
    Ok(merged)
}

/// Sorts sizes, numbers, strings, characters or booleans; fails for items that cannot be compared.
fn sorted_by_value(name: &str, array: &[Dynamic]) -> CallResult<Array> {
    let operation = format!("{name}()");
    sorted(array, &mut |a, b| super::compare::order(&operation, a, b))
}

/// Sorts, then checks that the comparer agrees with the result: `|a, b| a.size_bytes`, for example,
/// does not compare anything.
fn checked_sort(call: &Context<'_>, array: &[Dynamic], comparer: &FnPtr) -> CallResult<Array> {
    let sorted = sorted(array, &mut |a, b| compare(call, comparer, a, b))?;
    for pair in sorted.windows(2) {
        let is_before = |a: usize, b: usize| compare(call, comparer, &pair[a], &pair[b]);
        // a boolean comparer such as `a < b` returns false both ways for equal items
        let answer = is_before(0, 1)?;
        if answer.is_gt() && !(is_bool(call, comparer, pair)? && is_before(1, 0)?.is_gt()) {
            let error = HostError::usage("the callback of sort() is inconsistent");
            return Err(raise_unplaced(
                error.hint("it has to compare its two values: |a, b| a.size_bytes - b.size_bytes"),
            ));
        }
    }
    Ok(sorted)
}

fn is_bool(call: &Context<'_>, comparer: &FnPtr, pair: &[Dynamic]) -> CallResult<bool> {
    Ok(comparer.call_raw(call, None, &mut [pair[0].clone(), pair[1].clone()][..])?.is_bool())
}

/// Removes each item that `comparer` says is equal to the one before.
fn dedup_with(call: &Context<'_>, array: &mut Array, comparer: &FnPtr) -> CallResult<()> {
    let mut kept: Array = Array::with_capacity(array.len());
    for item in array.iter() {
        if let Some(last) = kept.last() {
            let answer = comparer.call_raw(call, None, &mut [last.clone(), item.clone()][..]);
            if expect_bool(
                call,
                "dedup",
                &answer.map_err(|error| in_callback(call, "dedup", error))?,
            )? {
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
    /// Sorts an array of sizes, numbers or strings.
    #[rhai_fn(name = "sort", return_raw)]
    pub fn sort_values(array: &mut Array) -> CallResult<()> {
        *array = sorted_by_value("sort", array)?;
        Ok(())
    }

    /// Sorts an array of sizes, numbers or strings, the largest first.
    #[rhai_fn(name = "sort_desc", return_raw)]
    pub fn sort_values_desc(array: &mut Array) -> CallResult<()> {
        *array = sorted_by_value("sort_desc", array)?;
        array.reverse();
        Ok(())
    }

    /// Returns a sorted copy of an array of sizes, numbers or strings.
    #[rhai_fn(name = "order", return_raw, pure)]
    pub fn order_values(array: &mut Array) -> CallResult<Array> {
        sorted_by_value("order", array)
    }

    /// Returns a sorted copy of an array of sizes, numbers or strings, the largest first.
    #[rhai_fn(name = "order_desc", return_raw, pure)]
    pub fn order_values_desc(array: &mut Array) -> CallResult<Array> {
        let mut array = sorted_by_value("order_desc", array)?;
        array.reverse();
        Ok(array)
    }

    /// Sorts an array by a function that compares two of its items.
    #[rhai_fn(name = "sort", name = "sort_by", return_raw)]
    pub fn sort(call: NativeCallContext, array: &mut Array, comparer: FnPtr) -> CallResult<()> {
        *array = checked_sort(&call, array, &comparer)?;
        Ok(())
    }

    /// Returns a sorted copy of an array.
    #[rhai_fn(name = "order", name = "order_by", return_raw, pure)]
    pub fn order(call: NativeCallContext, array: &mut Array, comparer: FnPtr) -> CallResult<Array> {
        checked_sort(&call, array, &comparer)
    }

    /// Returns the items of an array for which a function returns true.
    #[rhai_fn(name = "filter", return_raw, pure)]
    pub fn filter(call: NativeCallContext, array: &mut Array, filter: FnPtr) -> CallResult<Array> {
        Ok(partition(&call, "filter", array, &filter)?.0)
    }

    /// Removes the items for which a function returns true, and returns them.
    #[rhai_fn(name = "drain", return_raw)]
    pub fn drain(call: NativeCallContext, array: &mut Array, filter: FnPtr) -> CallResult<Array> {
        let (taken, kept) = partition(&call, "drain", array, &filter)?;
        *array = kept;
        Ok(taken)
    }

    /// Removes the items for which a function returns false, and returns them.
    #[rhai_fn(name = "retain", return_raw)]
    pub fn retain(call: NativeCallContext, array: &mut Array, filter: FnPtr) -> CallResult<Array> {
        let (kept, taken) = partition(&call, "retain", array, &filter)?;
        *array = kept;
        Ok(taken)
    }

    /// The index of the first item for which a function returns true, or -1.
    #[rhai_fn(name = "index_of", return_raw, pure)]
    pub fn index_of(call: NativeCallContext, array: &mut Array, filter: FnPtr) -> CallResult<INT> {
        index_of_from(call, array, filter, 0)
    }

    /// The index of the first item at or after `start` for which a function returns true, or -1.
    #[rhai_fn(name = "index_of", return_raw, pure)]
    pub fn index_of_from(
        call: NativeCallContext,
        array: &mut Array,
        filter: FnPtr,
        start: INT,
    ) -> CallResult<INT> {
        let found = position(&call, "index_of", array, &filter, start, true)?;
        Ok(found.map_or(-1, |index| INT::try_from(index).unwrap_or(INT::MAX)))
    }

    /// The first item for which a function returns true, or `()`.
    #[rhai_fn(name = "find", return_raw, pure)]
    pub fn find(call: NativeCallContext, array: &mut Array, filter: FnPtr) -> CallResult<Dynamic> {
        find_from(call, array, filter, 0)
    }

    /// The first item at or after `start` for which a function returns true, or `()`.
    #[rhai_fn(name = "find", return_raw, pure)]
    pub fn find_from(
        call: NativeCallContext,
        array: &mut Array,
        filter: FnPtr,
        start: INT,
    ) -> CallResult<Dynamic> {
        let found = position(&call, "find", array, &filter, start, true)?;
        Ok(found.and_then(|index| array.get(index).cloned()).unwrap_or(Dynamic::UNIT))
    }

    /// True if a function returns true for any item of an array.
    #[rhai_fn(name = "some", return_raw, pure)]
    pub fn some(call: NativeCallContext, array: &mut Array, filter: FnPtr) -> CallResult<bool> {
        Ok(position(&call, "some", array, &filter, 0, true)?.is_some())
    }

    /// True if a function returns true for all items of an array.
    #[rhai_fn(name = "all", return_raw, pure)]
    pub fn all(call: NativeCallContext, array: &mut Array, filter: FnPtr) -> CallResult<bool> {
        Ok(position(&call, "all", array, &filter, 0, false)?.is_none())
    }

    /// Removes each item that is equal to the one before.
    #[rhai_fn(name = "dedup", return_raw)]
    pub fn dedup(call: NativeCallContext, array: &mut Array) -> CallResult<()> {
        let mut kept: Array = Array::with_capacity(array.len());
        for item in array.iter() {
            let is_repeated = match kept.last() {
                Some(last) => call.call_native_fn::<bool>("==", (last.clone(), item.clone()))?,
                None => false,
            };
            if !is_repeated {
                kept.push(item.clone());
            }
        }
        *array = kept;
        Ok(())
    }

    /// Removes each item that is equal to the one before according to a function.
    #[rhai_fn(name = "dedup", return_raw)]
    pub fn dedup_by(call: NativeCallContext, array: &mut Array, comparer: FnPtr) -> CallResult<()> {
        dedup_with(&call, array, &comparer)
    }

    /// Returns the entries of a map for which a function of key and value returns true.
    #[rhai_fn(name = "filter", return_raw, pure)]
    pub fn filter_map(call: NativeCallContext, map: &mut Map, filter: FnPtr) -> CallResult<Map> {
        Ok(partition_map(&call, "filter", map, &filter)?.0)
    }

    /// Removes the entries for which a function of key and value returns true, and returns them.
    #[rhai_fn(name = "drain", return_raw)]
    pub fn drain_map(call: NativeCallContext, map: &mut Map, filter: FnPtr) -> CallResult<Map> {
        let (taken, kept) = partition_map(&call, "drain", map, &filter)?;
        *map = kept;
        Ok(taken)
    }

    /// Removes the entries for which a function of key and value returns false, and returns them.
    #[rhai_fn(name = "retain", return_raw)]
    pub fn retain_map(call: NativeCallContext, map: &mut Map, filter: FnPtr) -> CallResult<Map> {
        let (kept, taken) = partition_map(&call, "retain", map, &filter)?;
        *map = kept;
        Ok(taken)
    }

    // the same functions with the name of a function in place of a closure

    #[rhai_fn(name = "sort", return_raw)]
    pub fn sort_named(
        call: NativeCallContext,
        array: &mut Array,
        comparer: &str,
    ) -> CallResult<()> {
        sort(call, array, FnPtr::new(comparer)?)
    }

    #[rhai_fn(name = "filter", return_raw, pure)]
    pub fn filter_named(
        call: NativeCallContext,
        array: &mut Array,
        filter: &str,
    ) -> CallResult<Array> {
        functions::filter(call, array, FnPtr::new(filter)?)
    }

    #[rhai_fn(name = "drain", return_raw)]
    pub fn drain_named(
        call: NativeCallContext,
        array: &mut Array,
        filter: &str,
    ) -> CallResult<Array> {
        drain(call, array, FnPtr::new(filter)?)
    }

    #[rhai_fn(name = "retain", return_raw)]
    pub fn retain_named(
        call: NativeCallContext,
        array: &mut Array,
        filter: &str,
    ) -> CallResult<Array> {
        retain(call, array, FnPtr::new(filter)?)
    }

    #[rhai_fn(name = "some", return_raw, pure)]
    pub fn some_named(
        call: NativeCallContext,
        array: &mut Array,
        filter: &str,
    ) -> CallResult<bool> {
        some(call, array, FnPtr::new(filter)?)
    }

    #[rhai_fn(name = "all", return_raw, pure)]
    pub fn all_named(call: NativeCallContext, array: &mut Array, filter: &str) -> CallResult<bool> {
        all(call, array, FnPtr::new(filter)?)
    }

    #[rhai_fn(name = "dedup", return_raw)]
    pub fn dedup_named(
        call: NativeCallContext,
        array: &mut Array,
        comparer: &str,
    ) -> CallResult<()> {
        dedup_by(call, array, FnPtr::new(comparer)?)
    }
}
