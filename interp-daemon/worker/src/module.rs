//! The module `_vivarium` itself: its functions and types.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;
use vivarium_protocol::message::{Call, ConfigNode, LogScope, Op, Reply};
use vivarium_protocol::{PROTOCOL_VERSION, codec};

use crate::engine::calls::Answer;
use crate::engine::control::{self, StartError};
use crate::engine::conversation::{Sink, Trouble};
use crate::engine::dispatcher;
use crate::engine::phases::{self, ERR};
use crate::engine::{calls, worker_loop};
use crate::types::conn::MpConn;
use crate::types::fields;
use crate::types::filter::MpFilter;
use crate::types::finfo::MpFinfo;
use crate::types::hlist::MpHlist;
use crate::types::request::MpRequest;
use crate::types::server::MpServer;
use crate::types::streams::LogStream;
use crate::types::table::MpTable;
use crate::types::{SERVER_RETURN, text};

impl From<StartError> for PyErr {
    fn from(error: StartError) -> Self {
        PyRuntimeError::new_err(error.to_string())
    }
}

/// Asks about httpd as a whole, over the request that this thread runs.
fn global(py: Python<'_>, op: Op, number: i64, text: &[u8]) -> PyResult<Answer> {
    let Some((conversation, rid)) = phases::current() else {
        return Err(PyRuntimeError::new_err("no request is running on this thread"));
    };
    let _inside = conversation.enter(py);
    let call = Call::Op { op, number, text };
    Ok(Answer::new(conversation.call(py, rid, &call, Sink::Nowhere)?))
}

fn tree_to_py<'py>(py: Python<'py>, nodes: &[ConfigNode]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for node in nodes {
        list.append((text::to_py(py, &node.directive), text::to_py(py, &node.args)))?;
        if !node.children.is_empty() {
            list.append(tree_to_py(py, &node.children)?)?;
        }
    }
    Ok(list)
}

/// The part of the worker that httpd's threads talk to.
#[pymodule]
mod _vivarium {
    #[allow(clippy::wildcard_imports)]
    use super::*;

    #[pymodule_export]
    use super::{
        LogStream, MpConn, MpFilter, MpFinfo, MpHlist, MpRequest, MpServer, MpTable, SERVER_RETURN,
    };

    #[pymodule_export]
    use crate::forms::multipart::Parser;
    #[pymodule_export]
    use crate::forms::query::parse_qsl;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        fields::install(py)?;
        // The bare names, which error messages then have too.
        for class in [
            py.get_type::<MpRequest>(),
            py.get_type::<MpConn>(),
            py.get_type::<MpServer>(),
            py.get_type::<MpTable>(),
            py.get_type::<MpFilter>(),
            py.get_type::<MpFinfo>(),
            py.get_type::<MpHlist>(),
        ] {
            let name = class.name()?;
            class.setattr("__name__", name)?;
        }
        module.add("table", py.get_type::<MpTable>())?;
        module.add("PROTOCOL_VERSION", PROTOCOL_VERSION)?;
        Ok(())
    }

    /// set_up(slot, epoch, interpreter): takes over the descriptors that the process was born with.
    #[pyfunction]
    fn set_up(slot: &str, epoch: &str, interpreter: &str) -> PyResult<()> {
        Ok(control::set_up(slot, epoch, interpreter)?)
    }

    /// failed(reason): tells the supervisor why the worker cannot come up.
    #[pyfunction]
    fn failed(reason: &str) -> PyResult<()> {
        Ok(control::failed(reason)?)
    }

    /// ready(version): tells the supervisor that the worker is up, and begins to serve its control socket.
    #[pyfunction]
    fn ready(version: &str) -> PyResult<()> {
        Ok(control::ready(version.to_owned())?)
    }

    /// end(): the very last call: without a supervisor, nobody else ends what handlers have left running.
    #[pyfunction]
    fn end() {
        control::end_orphaned_group();
    }

    /// serve(): serves requests on this thread until the worker is told to stop.
    #[pyfunction]
    fn serve(py: Python<'_>) {
        worker_loop::serve(py);
    }

    /// wait(): waits until the worker is told to stop; returns how many seconds it has left.
    #[pyfunction]
    fn wait(py: Python<'_>) -> f64 {
        let worker = control::worker();
        while let Some(orphans) = py.detach(|| worker.wait_for_news()) {
            for tree in orphans {
                tree.abandon(py);
            }
        }
        worker.time_left().as_secs_f64()
    }

    /// run_exit_cleanups(): runs what was registered for the worker's end, and for the end of requests that have not
    /// ended yet.
    #[pyfunction]
    fn run_exit_cleanups(py: Python<'_>) {
        for tree in control::worker().regions.end() {
            tree.abandon(py);
        }
        phases::run_at_end(py);
    }

    /// forked(): for `os.register_at_fork`: this process is a child, whose requests belong to its parent.
    #[pyfunction]
    fn forked() {
        control::set_forked();
    }

    /// register_cleanup(callable[, data]): calls it when the worker ends.
    #[pyfunction]
    #[pyo3(signature = (callable, data=None, /))]
    fn register_cleanup(callable: &Bound<'_, PyAny>, data: Option<Py<PyAny>>) -> PyResult<()> {
        if !callable.is_callable() {
            return Err(PyValueError::new_err("first argument must be a callable object"));
        }
        phases::at_end(callable.py(), callable.clone().unbind(), data);
        Ok(())
    }

    /// main_server(): the main server.
    #[pyfunction]
    fn main_server(py: Python<'_>) -> PyResult<Py<MpServer>> {
        MpServer::main(py)
    }

    /// startup(): waits for what the supervisor says first; gives the imports to do and the main server.
    #[pyfunction]
    fn startup(py: Python<'_>) -> PyResult<(Vec<String>, Py<MpServer>)> {
        let startup = py.detach(control::startup)?;
        let imports = startup.imports.iter().map(|i| crate::types::text::to_string(i)).collect();
        Ok((imports, MpServer::tell_main(py, startup.main_server)?))
    }

    /// config_tree(): httpd's configuration: a list of (directive, arguments), each container followed by a list.
    #[pyfunction]
    fn config_tree(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
        let answer = global(py, Op::ConfigTree, 0, b"")?;
        let Reply::Bytes(encoded) = answer.reply()? else {
            return Err(Trouble::Broken("a reply that does not answer".into()).into());
        };
        let nodes: Vec<ConfigNode> =
            codec::decode(encoded).map_err(|e| Trouble::Broken(e.to_string()))?;
        tree_to_py(py, &nodes)
    }

    /// set_dispatcher(object): sets the object whose methods run handlers.
    #[pyfunction]
    fn set_dispatcher(object: &Bound<'_, PyAny>) -> PyResult<()> {
        dispatcher::set_dispatcher(object)
    }

    /// current_request(): the request that this thread runs a phase of, or None.
    #[pyfunction]
    fn current_request(py: Python<'_>) -> Option<Py<MpRequest>> {
        phases::current_request(py)
    }

    /// log(text[, level[, server_no]]): writes to the log of a virtual host if a request runs on this thread, else to
    /// the supervisor.
    #[pyfunction]
    #[pyo3(signature = (message, level=None, server_no=None))]
    fn log(
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        level: Option<i64>,
        server_no: Option<u32>,
    ) -> PyResult<()> {
        let Some(line) = text::opt_str_argument(1, message)? else { return Ok(()) };
        let level = level.filter(|l| *l != 0).map_or(ERR, |l| (l & 7) as u8);
        let sent = phases::current().is_some_and(|(conversation, rid)| {
            let scope = LogScope::Server(server_no.unwrap_or(0));
            calls::log(py, &conversation, Some(rid), scope, level, line.as_bytes()).is_ok()
        });
        if !sent {
            control::say(py, &line);
        }
        Ok(())
    }

    /// op(name[, number[, text]]): an operation of httpd, asked over the request that this thread runs.
    #[pyfunction]
    #[pyo3(signature = (name, number=0, text=None))]
    fn op<'py>(
        py: Python<'py>,
        name: &str,
        number: i64,
        text: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let op = match name {
            "server_root" => Op::ServerRoot,
            "mpm_query" => Op::MpmQuery,
            "exists_config_define" => Op::ExistsConfigDefine,
            _ => return Err(PyValueError::new_err(format!("no such operation: {name}"))),
        };
        let answer = global(py, op, number, text.unwrap_or_default())?;
        Ok(match answer.reply()? {
            Reply::Int(n) => n.into_pyobject(py)?.into_any(),
            Reply::Text(Some(t)) => crate::types::text::to_py(py, t).into_any(),
            Reply::Ok | Reply::None | Reply::Text(None) => py.None().into_bound(py),
            _ => return Err(Trouble::Broken("a reply that does not answer".into()).into()),
        })
    }

    /// stat(name, wanted): an mp_finfo of a file, as this process sees it.
    #[pyfunction]
    fn stat(py: Python<'_>, name: &Bound<'_, PyAny>, wanted: i64) -> PyResult<MpFinfo> {
        MpFinfo::stat(py, &super::text::str_argument(1, name)?, wanted)
    }

    /// finfo(values): an mp_finfo of values in the order of the FINFO_* indices.
    #[pyfunction]
    fn finfo(values: Vec<Bound<'_, PyAny>>) -> PyResult<MpFinfo> {
        MpFinfo::of_values(&values)
    }
}
