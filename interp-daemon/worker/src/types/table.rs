//! `mp_table`: ordered pairs of strings, keys compared without case, duplicates kept.
//!
//! A table of a request is a local copy with a log: what Python changes is changed here and told to httpd before
//! anything else is asked of it; when httpd may have changed it, the next look fetches it again.

use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyTuple};
use vivarium_protocol::message::{Call, Change, Reply, TableId};

use super::fields::malformed;
use super::pairs::Pairs;
use super::text;
use crate::engine::buffers::Buffer;
use crate::engine::calls;
use crate::engine::lock;
use crate::engine::state::{ALL_TABLES, Core, MAX_PENDING};

/// The request that a table belongs to.
#[derive(Debug)]
struct Live {
    core: Arc<Core>,
    id: TableId,
}

#[derive(Debug, Default)]
struct Inner {
    pairs: Arc<Pairs>,
    /// Which of the request's snapshots the pairs are of; none yet if none.
    version: Option<u32>,
}

/// `mp_table`
#[pyclass(name = "mp_table", frozen, subclass, mapping, weakref)]
#[derive(Debug, Default)]
pub(crate) struct MpTable {
    inner: Mutex<Inner>,
    live: Option<Live>,
}

impl MpTable {
    /// A table of a request.
    pub(crate) fn live(core: Arc<Core>, id: TableId) -> Self {
        Self { inner: Mutex::default(), live: Some(Live { core, id }) }
    }

    /// A table of a request or connection that starts with these contents and is not part of a snapshot.
    pub(crate) fn live_with(core: Arc<Core>, id: TableId, encoded: &[u8]) -> PyResult<Self> {
        let table = Self { inner: Mutex::default(), live: Some(Live { core, id }) };
        table.load(encoded)?;
        Ok(table)
    }

    /// A table that belongs to nothing.
    pub(crate) fn alone(encoded: &[u8]) -> PyResult<Self> {
        let table = Self::default();
        table.load(encoded)?;
        Ok(table)
    }

    /// Replaces the contents by an encoded table.
    pub(crate) fn load(&self, encoded: &[u8]) -> PyResult<()> {
        let mut base = Buffer::take();
        base.extend_from_slice(encoded);
        let pairs = Pairs::decode(Arc::new(base), 0, encoded.len()).map_err(malformed)?;
        lock(&self.inner).pairs = Arc::new(pairs);
        Ok(())
    }

    /// Replaces the contents of a request's table by what httpd says they are now.
    pub(crate) fn refreshed(&self, encoded: &[u8]) -> PyResult<()> {
        self.load(encoded)?;
        if let Some(live) = &self.live {
            let mut state = live.core.state();
            state.stale_tables &= !1_u16.checked_shl(live.id as u32).unwrap_or(0);
            lock(&self.inner).version = Some(state.version);
        }
        Ok(())
    }

    /// Removes the pairs whose value is empty (`PythonOption key ""`).
    pub(crate) fn drop_empty(&self) {
        let mut inner = lock(&self.inner);
        if inner.pairs.iter().any(|(_, v)| v.is_empty()) {
            Arc::make_mut(&mut inner.pairs).retain(|_, value| !value.is_empty());
        }
    }

    /// Brings a request's table up to date.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        let Some(live) = &self.live else { return Ok(()) };
        let bit = 1_u16.checked_shl(live.id as u32).unwrap_or(0) & ALL_TABLES;
        if bit == 0 {
            return Ok(());
        }
        let stale = live.core.state().stale_tables & bit != 0;
        if stale && live.core.tree().asking().is_some() {
            let answer = calls::ask(py, &live.core, &Call::Table(live.id))?;
            match answer.reply()? {
                Reply::Bytes(encoded) => self.load(encoded)?,
                other => return Err(calls::unexpected(&other)),
            }
            let mut state = live.core.state();
            state.stale_tables &= !bit;
            lock(&self.inner).version = Some(state.version);
        } else {
            let mut state = live.core.state();
            let version = Some(state.version);
            if lock(&self.inner).version == version {
                return Ok(());
            }
            let found = state.table(live.id).map_err(malformed)?;
            drop(state);
            let pairs = match found {
                Some((base, at, len)) => Pairs::decode(base, at, len).map_err(malformed)?,
                None => Pairs::default(),
            };
            let mut inner = lock(&self.inner);
            inner.pairs = Arc::new(pairs);
            inner.version = version;
        }
        if live.id == TableId::Options {
            self.drop_empty();
        }
        Ok(())
    }

    /// The pairs as they are now.
    pub(crate) fn pairs(&self, py: Python<'_>) -> PyResult<Arc<Pairs>> {
        self.sync(py)?;
        Ok(Arc::clone(&lock(&self.inner).pairs))
    }

    fn edit(&self, py: Python<'_>, edit: impl FnOnce(&mut Pairs)) -> PyResult<()> {
        self.sync(py)?;
        edit(Arc::make_mut(&mut lock(&self.inner).pairs));
        Ok(())
    }

    /// Tells httpd of a change, if the table is a request's.
    fn tell<'c>(&self, py: Python<'_>, change: impl FnOnce(TableId) -> Change<'c>) -> PyResult<()> {
        let Some(live) = &self.live else { return Ok(()) };
        live.core.change(&change(live.id));
        calls::confirm_table(py, &live.core, live.id)
    }

    fn check(key: &[u8], value: &[u8]) -> PyResult<()> {
        if key.len().saturating_add(value.len()) > MAX_PENDING {
            return Err(PyValueError::new_err("too long for a table"));
        }
        Ok(())
    }

    /// Replaces all values of a key.
    pub(crate) fn set(&self, py: Python<'_>, key: &[u8], value: &[u8]) -> PyResult<()> {
        Self::check(key, value)?;
        self.edit(py, |pairs| pairs.set(key, value))?;
        self.tell(py, |id| Change::Set(id, key, value))
    }

    fn append(&self, py: Python<'_>, key: &[u8], value: &[u8]) -> PyResult<()> {
        Self::check(key, value)?;
        self.edit(py, |pairs| pairs.add(key, value))?;
        self.tell(py, |id| Change::Add(id, key, value))
    }

    fn unset(&self, py: Python<'_>, key: &[u8]) -> PyResult<()> {
        self.edit(py, |pairs| pairs.unset(key))?;
        self.tell(py, |id| Change::Unset(id, key))
    }

    /// The first value of a key.
    pub(crate) fn first(&self, py: Python<'_>, key: &[u8]) -> PyResult<Option<Vec<u8>>> {
        Ok(self.pairs(py)?.of_key(key).next().map(<[u8]>::to_vec))
    }

    fn fill(&self, py: Python<'_>, from: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(other) = from.cast::<Self>() {
            let pairs = other.get().pairs(py)?;
            return pairs.iter().try_for_each(|(k, v)| self.append(py, k, v));
        }
        if from.hasattr("keys")? {
            return self.update(py, from);
        }
        for (n, item) in from.try_iter()?.enumerate() {
            let item = item?;
            let pair: Vec<Bound<'_, PyAny>> = match item.try_iter() {
                Ok(values) => values.collect::<PyResult<_>>()?,
                Err(_) => {
                    return Err(PyTypeError::new_err(format!(
                        "cannot convert table update sequence element #{n} to a sequence"
                    )));
                }
            };
            let [key, value] = pair.as_slice() else {
                return Err(PyValueError::new_err(format!(
                    "table update sequence element #{n} has length {}; 2 is required",
                    pair.len()
                )));
            };
            self.set(py, &shown(key)?, &shown(value)?)?;
        }
        Ok(())
    }

    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let pairs = self.pairs(py)?;
        for (key, _) in pairs.iter() {
            dict.set_item(text::to_py(py, key), values(py, &pairs, key)?)?;
        }
        Ok(dict)
    }
}

/// What `str()` makes of a key or a value.
fn shown(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    text::bytes_of(&value.str()?.into_any())
}

fn values<'py>(py: Python<'py>, pairs: &Pairs, key: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut found = pairs.of_key(key);
    let Some(first) = found.next() else { return Ok(None) };
    let Some(second) = found.next() else { return Ok(Some(text::to_py(py, first).into_any())) };
    let list = PyList::empty(py);
    for value in [first, second].into_iter().chain(found) {
        list.append(text::to_py(py, value))?;
    }
    Ok(Some(list.into_any()))
}

/// The text as `repr` shows it.
fn repr(py: Python<'_>, bytes: &[u8]) -> PyResult<String> {
    Ok(text::to_py(py, bytes).repr()?.to_string())
}

#[pymethods]
impl MpTable {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        if let Some(name) = kwargs.and_then(|k| k.keys().get_item(0).ok()) {
            return Err(PyTypeError::new_err(format!(
                "'{name}' is an invalid keyword argument for mp_table()"
            )));
        }
        let table = Self::default();
        match args.len() {
            0 => {}
            1 => table.fill(py, &args.get_item(0)?)?,
            n => {
                return Err(PyTypeError::new_err(format!(
                    "mp_table() takes at most 1 argument ({n} given)"
                )));
            }
        }
        Ok(table)
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let pairs = self.pairs(py)?;
        let found = text::with_bytes(key, |k| values(py, &pairs, k))?;
        found.ok_or_else(|| PyKeyError::new_err(key.clone().unbind()))
    }

    fn __setitem__(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        text::with_bytes(key, |k| text::with_bytes(value, |v| self.set(py, k, v)))
    }

    fn __delitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        text::with_bytes(key, |k| self.unset(py, k))
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let pairs = self.pairs(py)?;
        text::with_bytes(key, |k| Ok(pairs.of_key(k).next().is_some()))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.pairs(py)?.len())
    }

    fn __iter__(slf: &Bound<'_, Self>) -> PyResult<TableIterator> {
        Self::iterkeys(slf)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let pairs = self.pairs(py)?;
        let mut shown = pairs
            .iter()
            .map(|(k, v)| Ok(format!("{}: {}", repr(py, k)?, repr(py, v)?)))
            .collect::<PyResult<Vec<_>>>()?;
        shown.reverse();
        Ok(format!("{{{}}}", shown.join(", ")))
    }

    fn __richcmp__<'py>(
        &self,
        py: Python<'py>,
        other: &Bound<'py, PyAny>,
        op: pyo3::basic::CompareOp,
    ) -> PyResult<Bound<'py, PyAny>> {
        let theirs = match other.cast::<Self>() {
            Ok(table) => table.get().as_dict(py)?.into_any(),
            Err(_) if other.hasattr("keys")? => {
                let dict = PyDict::new(py);
                dict.call_method1("update", (other,))?;
                dict.into_any()
            }
            Err(_) => return Ok(py.NotImplemented().into_bound(py)),
        };
        self.as_dict(py)?.rich_compare(theirs, op)
    }

    #[classattr]
    const __hash__: Option<Py<PyAny>> = None;

    /// T.add(k, v): appends a pair, beside others of the same key.
    fn add(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        text::with_bytes(key, |k| text::with_bytes(value, |v| self.append(py, k, v)))
    }

    /// T.get(k[, d]): the first value of k, or d.
    #[pyo3(signature = (key, default=None, /))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let pairs = self.pairs(py)?;
        let found =
            text::with_bytes(key, |k| Ok(pairs.of_key(k).next().map(|v| text::to_py(py, v))))?;
        Ok(found.map(Bound::into_any).or(default).unwrap_or_else(|| py.None().into_bound(py)))
    }

    /// T.has_key(k): 1 or 0.
    fn has_key(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<u8> {
        self.__contains__(py, key).map(u8::from)
    }

    /// T.setdefault(k[, d]): the first value of k; if there is none, d ("") is set and returned.
    #[pyo3(signature = (key, default=None, /))]
    fn setdefault<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let key = text::bytes_of(key)?;
        if let Some(value) = self.first(py, &key)? {
            return Ok(text::to_py(py, &value).into_any());
        }
        let value = default.map_or_else(|| Ok(Vec::new()), |d| text::bytes_of(&d))?;
        self.set(py, &key, &value)?;
        Ok(text::to_py(py, &value).into_any())
    }

    /// T.popitem(): removes and returns the first pair.
    fn popitem(&self, py: Python<'_>) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
        let pairs = self.pairs(py)?;
        let Some((key, value)) = pairs.iter().next() else {
            return Err(PyKeyError::new_err("popitem(): table is empty"));
        };
        let shown = (text::to_py(py, key), text::to_py(py, value));
        let others: Vec<Vec<u8>> = pairs.of_key(key).skip(1).map(<[u8]>::to_vec).collect();
        self.unset(py, key)?;
        for other in others {
            self.append(py, key, &other)?;
        }
        Ok((shown.0.into_any().unbind(), shown.1.into_any().unbind()))
    }

    /// T.clear(): removes all pairs.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.edit(py, Pairs::clear)?;
        self.tell(py, Change::Clear)
    }

    /// T.copy(): a table of its own with the same pairs.
    fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        let pairs = self.pairs(py)?;
        Ok(Self { inner: Mutex::new(Inner { pairs, version: None }), live: None })
    }

    /// T.update(m): sets every key of m, as text.
    fn update(&self, py: Python<'_>, from: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(other) = from.cast::<Self>() {
            let pairs = other.get().pairs(py)?;
            return pairs.iter().try_for_each(|(k, v)| self.set(py, k, v));
        }
        for key in from.call_method0("keys")?.try_iter()? {
            let key = key?;
            let value = from.get_item(&key)?;
            self.set(py, &shown(&key)?, &shown(&value)?)?;
        }
        Ok(())
    }

    /// T.keys(): the keys, one for each pair.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let pairs = self.pairs(py)?;
        PyList::new(py, pairs.iter().map(|(k, _)| text::to_py(py, k)).collect::<Vec<_>>())
    }

    /// T.values(): the values.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let pairs = self.pairs(py)?;
        PyList::new(py, pairs.iter().map(|(_, v)| text::to_py(py, v)).collect::<Vec<_>>())
    }

    /// T.items(): the pairs.
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let pairs = self.pairs(py)?;
        let pairs = pairs.iter().map(|(k, v)| (text::to_py(py, k), text::to_py(py, v)));
        PyList::new(py, pairs.collect::<Vec<_>>())
    }

    /// T.iterkeys(): an iterator over the keys.
    fn iterkeys(slf: &Bound<'_, Self>) -> PyResult<TableIterator> {
        TableIterator::new(slf, slf.get().keys(slf.py())?)
    }

    /// T.itervalues(): an iterator over the values.
    fn itervalues(slf: &Bound<'_, Self>) -> PyResult<TableIterator> {
        TableIterator::new(slf, slf.get().values(slf.py())?)
    }

    /// T.iteritems(): an iterator over the pairs.
    fn iteritems(slf: &Bound<'_, Self>) -> PyResult<TableIterator> {
        TableIterator::new(slf, slf.get().items(slf.py())?)
    }
}

/// An iterator that notices when its table changes size.
#[pyclass(name = "mp_table_iterator", frozen)]
#[derive(Debug)]
pub(crate) struct TableIterator {
    table: Py<MpTable>,
    size: usize,
    rest: Py<PyIterator>,
}

impl TableIterator {
    fn new(table: &Bound<'_, MpTable>, list: Bound<'_, PyList>) -> PyResult<Self> {
        let size = list.len();
        let rest = list.try_iter()?.unbind();
        Ok(Self { table: table.clone().unbind(), size, rest })
    }
}

#[pymethods]
impl TableIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if lock(&self.table.get().inner).pairs.len() != self.size {
            return Err(PyRuntimeError::new_err("table changed size during iteration"));
        }
        self.rest.bind(py).clone().next().transpose()
    }
}
