//! What one `Enter` of a conversation is about.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use vivarium_protocol::frame::NO_RID;
use vivarium_protocol::message::Phase;

use super::filters::Run;
use super::tree::Entry;

/// A level of a conversation: what the `Enter` of this depth is about.
#[derive(Default)]
pub(crate) struct Level {
    /// The request entered; none after the end of a tree.
    pub(crate) entry: Option<Rc<Entry>>,
    /// The filter run, in filter phases.
    pub(crate) filter: Option<Rc<Run>>,
    /// It is an element of a page: what is written to the request stays in the page, too.
    pub(crate) is_element: bool,
    /// The content phase: when it is over, so is the answer.
    pub(crate) is_content: bool,
    /// The phase.
    pub(crate) phase: Cell<Option<Phase>>,
    /// The number of a request that is over.
    past: Option<u32>,
    /// What the phase is given beside the request (SSI, providers).
    pub(crate) arguments: Vec<Vec<u8>>,
    /// What it answers beside a number.
    pub(crate) answer: RefCell<Option<Vec<u8>>>,
}

impl Level {
    /// A phase of a request.
    pub(crate) fn request(entry: Rc<Entry>, is_content: bool) -> Self {
        Self { entry: Some(entry), is_content, ..Self::default() }
    }
    /// A request with arguments.
    pub(crate) fn with_arguments(entry: Rc<Entry>, arguments: Vec<Vec<u8>>) -> Self {
        Self { entry: Some(entry), arguments, ..Self::default() }
    }
    /// An SSI element of a request.
    pub(crate) fn element(entry: Rc<Entry>, run: Rc<Run>, arguments: Vec<Vec<u8>>) -> Self {
        Self { filter: Some(run), is_element: true, ..Self::with_arguments(entry, arguments) }
    }
    /// A filter of a request.
    pub(crate) fn filter(entry: Rc<Entry>, run: Rc<Run>) -> Self {
        Self { entry: Some(entry), filter: Some(run), ..Self::default() }
    }
    /// A request that is over.
    pub(crate) fn afterwards(rid: u32) -> Self {
        Self { past: Some(rid), ..Self::default() }
    }
    pub(crate) fn rid(&self) -> u32 {
        self.entry.as_ref().map(|e| e.rid).or(self.past).unwrap_or(NO_RID)
    }
}
