//! Query strings and bodies of type `application/x-www-form-urlencoded`: no Python in here.
//!
//! As in mod_python: fields are separated by `&` or `;`, `+` is a space, a name or a value ends at a zero byte, fields
//! without a value are left out unless the caller wants them. Anything can be parsed: what is no escape stays as it is.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// One name or value, decoded.
fn decoded(part: &[u8]) -> Cow<'_, [u8]> {
    let plain = !part.iter().any(|b| matches!(b, b'+' | b'%' | 0));
    if plain {
        return Cow::Borrowed(part);
    }
    let spaced: Cow<'_, [u8]> = if part.contains(&b'+') {
        part.iter().map(|&b| if b == b'+' { b' ' } else { b }).collect::<Vec<u8>>().into()
    } else {
        part.into()
    };
    let mut bytes: Vec<u8> = percent_decode(&spaced).collect();
    if let Some(end) = bytes.iter().position(|&b| b == 0) {
        bytes.truncate(end);
    }
    bytes.into()
}

/// The fields of a query string in order.
pub(crate) fn fields(
    query: &[u8],
    keep_blank: bool,
) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    query.split(|b| matches!(b, b'&' | b';')).filter(|field| !field.is_empty()).filter_map(
        move |field| {
            let (name, value) = match field.iter().position(|&b| b == b'=') {
                Some(at) => (&field[..at], &field[at + 1..]),
                None => (field, &field[field.len()..]),
            };
            let value = decoded(value);
            (keep_blank || !value.is_empty()).then(|| (decoded(name), value))
        },
    )
}
