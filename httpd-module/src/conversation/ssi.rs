//! Running an SSI element: its output goes into mod_include's own.

use std::rc::Rc;

use vivarium_protocol::codes;
use vivarium_protocol::message::{FilterRef, Phase, Then};

use super::exchange::Level;
use super::filters::Run;
use super::tree::Tree;
use super::{phases, run};
use crate::apache::brigade::Brigade;
use crate::apache::filter::Filter;
use crate::apache::log;

/// One element of a page.
pub(crate) struct Element {
    /// mod_include's filter.
    pub(crate) filter: Filter,
    /// Where the element's output goes.
    pub(crate) output: Brigade,
    /// `eval` or `exec`.
    pub(crate) name: Vec<u8>,
    pub(crate) text: Vec<u8>,
    /// `IncludesNOEXEC` does not forbid it, and it has just one attribute.
    pub(crate) may_run: bool,
}

/// Runs it; false if the page should show its error text instead.
pub(crate) fn run(element: &Element) -> bool {
    let Some(r) = element.filter.request() else { return false };
    if !element.may_run || !matches!(&*element.name, b"eval" | b"exec") {
        let text = format!(
            "{}: an SSI python element needs one attribute, eval or exec, and is not allowed under IncludesNOEXEC",
            codes::CONFIG
        );
        log::request(r, log::Level::Err as i32, text.as_bytes());
        return false;
    }
    let (tree, entry) = Tree::of(r);
    let Some(input) = Brigade::new(r.pool(), r.connection()) else { return false };
    // To the worker the element is a filter that has nothing to read; what it writes stays in the page.
    let this = Run::element(element.filter, input, element.output);
    let arguments = vec![element.name.clone(), element.text.clone()];
    let level = Level::element(Rc::clone(&entry), this, arguments);
    let key = run::pool_key(r, &[]);
    let filter = FilterRef {
        id: tree.next_filter(),
        name: b"include",
        is_input: false,
        is_sync: false,
        ahead: &[],
        then: Then::Ask,
    };
    let what =
        run::What { phase: Phase::Ssi, handlers: &[], filter: Some(filter), extension: None };
    let done = run::run(r, &key, &tree, &level, &what);
    input.destroy();
    match done {
        Ok(leave) => leave.result == crate::sys::OK,
        Err(fault) => {
            phases::log_fault(r, Phase::Ssi, &fault);
            false
        }
    }
}
