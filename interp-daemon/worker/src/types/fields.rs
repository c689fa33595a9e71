//! The request's scalar attributes: one descriptor for each row of the protocol's field list.

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use vivarium_protocol::fields::{FIELDS, Field, Row, Type, Value};
use vivarium_protocol::message::{Call, Change, Reply};
use vivarium_protocol::wire::{Reader, WireError};

use super::finfo::MpFinfo;
use super::request::MpRequest;
use super::text;
use crate::engine::calls;
use crate::engine::conversation::Trouble;
use crate::engine::state::{Core, Owned};

/// An attribute of `mp_request`.
#[pyclass(name = "mp_request_attribute", frozen)]
#[derive(Debug)]
pub(crate) struct FieldDescriptor {
    row: &'static Row,
}

#[pymethods]
impl FieldDescriptor {
    fn __get__<'py>(
        slf: Bound<'py, Self>,
        object: &Bound<'py, PyAny>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if object.is_none() {
            return Ok(slf.into_any());
        }
        let py = slf.py();
        get(py, object.cast::<MpRequest>()?.get().core(), slf.get().row)
    }

    fn __set__(&self, object: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let request = object.cast::<MpRequest>()?.get();
        set(request.core(), self.row, value)?;
        calls::confirm_field(object.py(), request.core(), self.row.field)
    }

    fn __delete__(&self, _object: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.row.writable {
            Err(PyTypeError::new_err("can't delete numeric/char attribute"))
        } else {
            Err(readonly(self.row))
        }
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        self.row.name
    }

    fn __repr__(&self) -> String {
        format!("<attribute '{}' of 'mp_request' objects>", self.row.name)
    }
}

/// Puts a descriptor for every row on the type.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<MpRequest>();
    for row in FIELDS {
        class.setattr(row.name, Py::new(py, FieldDescriptor { row })?)?;
    }
    Ok(())
}

fn readonly(row: &Row) -> PyErr {
    PyAttributeError::new_err(format!(
        "attribute '{}' of 'mp_request' objects is not writable",
        row.name
    ))
}

/// The exception for bytes of httpd that cannot be decoded.
pub(crate) fn malformed(error: WireError) -> PyErr {
    Trouble::Broken(error.to_string()).into()
}

/// An attribute's value now: the local one, or httpd's if the local one may be out of date.
pub(crate) fn get<'py>(
    py: Python<'py>,
    core: &Core,
    row: &'static Row,
) -> PyResult<Bound<'py, PyAny>> {
    refresh(py, core, row.field)?;
    // Making a tuple can set off the garbage collector, and with it any code: not while the state is locked.
    let found = core.state().field(row.field, |value| match value {
        Value::Tuple(_) => Err(Owned::of(value)),
        Value::None if matches!(row.kind, Type::Tuple) => Err(Owned::Tuple(Vec::new())),
        scalar => Ok(scalar_to_py(py, row, scalar)),
    });
    match found.map_err(malformed)? {
        Ok(scalar) => scalar,
        Err(Owned::Tuple(values)) if is_finfo(row) => {
            Ok(Bound::new(py, MpFinfo::of_fields(&values))?.into_any())
        }
        Err(tuple) => tuple_to_py(py, &tuple),
    }
}

/// The one tuple that is an object of its own in Python.
fn is_finfo(row: &Row) -> bool {
    row.name == "finfo"
}

/// Asks for a field that may be out of date, if there is anybody to ask.
pub(crate) fn refresh(py: Python<'_>, core: &Core, field: Field) -> PyResult<()> {
    if core.state().is_stale(field) && core.tree().asking().is_some() {
        let answer = calls::ask(py, core, &Call::Field(field as u8))?;
        let value = match answer.reply()? {
            Reply::Value(bytes) => {
                Owned::of(&Value::read(&mut Reader::new(bytes)).map_err(malformed)?)
            }
            Reply::None => Owned::None,
            other => return Err(calls::unexpected(&other)),
        };
        core.state().keep(field, value);
    }
    Ok(())
}

fn scalar_to_py<'py>(py: Python<'py>, row: &Row, value: &Value<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match (value, row.kind) {
        (Value::Int(micros), Type::Seconds) => {
            #[allow(clippy::cast_precision_loss)]
            let seconds = *micros as f64 / 1e6;
            seconds.into_pyobject(py)?.into_any()
        }
        (Value::Int(n), _) => n.into_pyobject(py)?.into_any(),
        (Value::Str(bytes), _) if row.field == Field::User => {
            text::latin1_to_py(py, bytes).into_any()
        }
        (Value::Str(bytes), _) => text::to_py(py, bytes).into_any(),
        (Value::None | Value::Tuple(_), _) => py.None().into_bound(py),
    })
}

fn tuple_to_py<'py>(py: Python<'py>, value: &Owned) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Owned::None => py.None().into_bound(py),
        Owned::Str(bytes) => text::to_py(py, bytes).into_any(),
        Owned::Int(n) => n.into_pyobject(py)?.into_any(),
        Owned::Tuple(items) => {
            let items = items.iter().map(|i| tuple_to_py(py, i)).collect::<PyResult<Vec<_>>>()?;
            PyTuple::new(py, items)?.into_any()
        }
    })
}

/// Fields that may be set to `None`.
fn may_be_none(field: Field) -> bool {
    matches!(field, Field::Handler | Field::Args)
}

fn set(core: &Core, row: &'static Row, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if !row.writable {
        return Err(readonly(row));
    }
    let owned = match row.kind {
        Type::Str | Type::OptStr if value.is_none() && may_be_none(row.field) => Owned::None,
        Type::Str | Type::OptStr => Owned::Str(text::bytes_of(value)?.into()),
        Type::Int => Owned::Int(value.extract()?),
        #[allow(clippy::cast_possible_truncation)]
        Type::Seconds => Owned::Int((value.extract::<f64>()? * 1e6) as i64),
        Type::Tuple if is_finfo(row) => {
            let info = value.cast::<MpFinfo>().map_err(|_| {
                PyTypeError::new_err("finfo must be an mp_finfo, as apache.stat() gives it")
            })?;
            Owned::Tuple(info.get().fields())
        }
        Type::Tuple => return Err(readonly(row)),
    };
    set_local(core, row.field, owned);
    Ok(())
}

/// Assigns a field: here at once, in httpd before anything else is asked of it.
pub(crate) fn set_local(core: &Core, field: Field, value: Owned) {
    core.change(&Change::Field(field, value.borrow()));
    let mut state = core.state();
    state.content_type_set |= field == Field::ContentType;
    state.keep(field, value);
}
