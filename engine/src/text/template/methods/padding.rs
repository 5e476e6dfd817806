//! Methods that pad a string to a given width.

use minijinja::{Error, Value};

use super::super::arguments::{integer, named, refuse, string};

/// The longest text that padding makes, characters.
const MAX_WIDTH: usize = 1 << 16;

pub(super) fn pad(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let [width, fill] = named(args, ["width", "fillchar"])?;
    let width = usize::try_from(integer(width)?.unwrap_or(0)).unwrap_or(0);
    if width > MAX_WIDTH {
        return Err(refuse(format!("width {width} is more than {MAX_WIDTH}")));
    }
    let fill = string(fill)?.unwrap_or_else(|| " ".to_owned());
    if fill.chars().count() != 1 {
        let message = "the fill character must be exactly one character long";
        return Err(refuse(message.to_owned()));
    }
    let missing = width.saturating_sub(text.chars().count());
    let padded = match method {
        "zfill" => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        "ljust" => format!("{text}{}", fill.repeat(missing)),
        "rjust" => format!("{}{text}", fill.repeat(missing)),
        _ => {
            // Python puts the odd character on the left if the width is odd.
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))
        }
    };
    Ok(Value::from(padded))
}
