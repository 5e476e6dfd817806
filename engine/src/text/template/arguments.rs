//! Arguments of filters and methods under the names that Python gives them.

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, Value};

/// The arguments of a filter or function, after its value.
pub(super) type Arguments = Rest<ValueOrKwargs>;

/// The arguments by position or by name; those not given are `None`.
pub(super) fn named<const N: usize>(
    args: &[Value],
    names: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    let (positional, keywords) = match args.split_last() {
        Some((last, rest)) if last.is_kwargs() => (rest, Some(Kwargs::try_from(last.clone())?)),
        _ => (args, None),
    };
    if positional.len() > N {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let mut values = names.map(|_| None);
    for (slot, value) in values.iter_mut().zip(positional) {
        *slot = Some(value.clone());
    }
    if let Some(keywords) = keywords {
        for (slot, name) in values.iter_mut().zip(names) {
            if keywords.has(name) {
                *slot = Some(keywords.get(name)?);
            }
        }
        keywords.assert_all_used()?;
    }
    Ok(values)
}

/// The arguments that were given, all of them by name.
pub(super) fn keywords<const N: usize>(args: Arguments, names: [&str; N]) -> Result<Kwargs, Error> {
    let values = named(&args.into_values(), names)?;
    let given = names.into_iter().zip(values);
    Ok(given
        .filter_map(|(name, value)| Some((name, value?)))
        .collect())
}

/// An argument that is required.
pub(super) fn required(value: Option<Value>, name: &str) -> Result<Value, Error> {
    value.ok_or_else(|| Error::new(ErrorKind::MissingArgument, format!("argument {name}")))
}

/// A string argument; `none` counts as not given.
pub(super) fn string(value: Option<Value>) -> Result<Option<String>, Error> {
    match value.filter(|value| !value.is_none()) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(refuse(format!("expected a string, found {}", value.kind()))),
        },
    }
}

/// An integer argument; `none` counts as not given.
pub(super) fn integer(value: Option<Value>) -> Result<Option<i64>, Error> {
    let value = value.filter(|value| !value.is_none());
    value.map(i64::try_from).transpose()
}

/// A boolean argument.
pub(super) fn flag(value: Option<Value>) -> bool {
    value.is_some_and(|value| value.is_true())
}

pub(super) fn is_tuple(value: &Value) -> bool {
    value.downcast_object_ref::<Tuple>().is_some()
}

/// Refuses what Python cannot iterate. MiniJinja treats `none` as an empty list.
pub(super) fn iterable(value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => Err(refuse("none is not iterable".to_owned())),
        _ => Ok(()),
    }
}

pub(super) fn refuse(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
