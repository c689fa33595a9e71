//! Lists of changes to a request, hand-coded ([`crate::wire`]).

use super::TableId;
use crate::fields::{FINFO_ITEMS, FINFO_TEXTS, Field, Type, Value};
use crate::wire::{Reader, WireError, Writer};

/// One change to the request that a `Changes` frame names; the frame's payload is a list of these back to back.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<'a> {
    /// Assign a field.
    Field(Field, Value<'a>),
    /// Replace all values of a key by one.
    Set(TableId, &'a [u8], &'a [u8]),
    /// Append a pair.
    Add(TableId, &'a [u8], &'a [u8]),
    /// Remove all values of a key.
    Unset(TableId, &'a [u8]),
    /// Remove everything.
    Clear(TableId),
    /// `conn.keepalive = n`.
    Keepalive(i32),
}

impl<'a> Change<'a> {
    /// Appends the change.
    pub fn write(&self, w: &mut Writer<'_>) {
        match self {
            Self::Field(field, value) => {
                w.u8(0);
                w.u8(*field as u8);
                value.write(w);
            }
            Self::Set(t, k, v) => {
                w.u8(1);
                w.u8(*t as u8);
                w.bytes(k);
                w.bytes(v);
            }
            Self::Add(t, k, v) => {
                w.u8(2);
                w.u8(*t as u8);
                w.bytes(k);
                w.bytes(v);
            }
            Self::Unset(t, k) => {
                w.u8(3);
                w.u8(*t as u8);
                w.bytes(k);
            }
            Self::Clear(t) => {
                w.u8(4);
                w.u8(*t as u8);
            }
            Self::Keepalive(n) => {
                w.u8(5);
                w.i64(i64::from(*n));
            }
        }
    }

    /// Reads the next change; `None` at the end of the list.
    ///
    /// # Errors
    /// [`WireError`]: an unknown kind, field or table, a value of another type than the field's, a read-only field, a
    /// text, key or value with a zero byte (httpd's strings end there: what was checked would not be what is used).
    pub fn read(r: &mut Reader<'a>) -> Result<Option<Self>, WireError> {
        if r.remaining() == 0 {
            return Ok(None);
        }
        let at = r.position();
        let bad = |what| WireError { at, what };
        let kind = r.u8("change")?;
        let table =
            |r: &mut Reader<'a>| TableId::from_u8(r.u8("table number")?).ok_or(bad("table number"));
        let text = |r: &mut Reader<'a>, what| {
            r.bytes(what).and_then(|s| if s.contains(&0) { Err(bad(what)) } else { Ok(s) })
        };
        Ok(Some(match kind {
            0 => {
                let field = Field::from_u8(r.u8("field number")?).ok_or(bad("field number"))?;
                let value = Value::read(r)?;
                let row = field.row();
                let fits = match (&value, row.kind) {
                    (Value::Str(s), Type::Str | Type::OptStr) => !s.contains(&0),
                    (Value::None, Type::OptStr) | (Value::Int(_), Type::Int | Type::Seconds) => {
                        true
                    }
                    (Value::Tuple(items), Type::Tuple) => is_finfo(items),
                    _ => false,
                };
                if !row.writable || !fits {
                    return Err(bad("field value"));
                }
                Self::Field(field, value)
            }
            1 => Self::Set(table(r)?, text(r, "key")?, text(r, "value")?),
            2 => Self::Add(table(r)?, text(r, "key")?, text(r, "value")?),
            3 => Self::Unset(table(r)?, text(r, "key")?),
            4 => Self::Clear(table(r)?),
            5 => Self::Keepalive(
                i32::try_from(r.i64("keepalive")?)
                    .ok()
                    .filter(|n| (0..=2).contains(n))
                    .ok_or(bad("keepalive"))?,
            ),
            _ => return Err(bad("change")),
        }))
    }
}

/// Whether values are those of a [`Field::Finfo`], the one tuple that may be assigned.
fn is_finfo(items: &[Value<'_>]) -> bool {
    let fits = |(at, value): (usize, &Value<'_>)| match value {
        Value::None => true,
        Value::Int(_) => !FINFO_TEXTS.contains(&at),
        Value::Str(s) => FINFO_TEXTS.contains(&at) && !s.contains(&0),
        Value::Tuple(_) => false,
    };
    items.len() == FINFO_ITEMS && items.iter().enumerate().all(fits)
}
