//! Python output filters: a run is one call of the filter with one brigade.

use std::cell::Cell;
use std::rc::Rc;

use vivarium_protocol::frame::Header;
use vivarium_protocol::message::{FilterRef, Phase, Reply};

use super::body::GATHER;
use super::exchange::{Conversation, Level};
use super::tree::Tree;
use super::{Fault, phases};
use crate::apache::brigade::{Brigade, Next};
use crate::apache::filter::{self, Filter};
use crate::sys;

/// One run.
pub(crate) struct Run {
    filter: Filter,
    input: Brigade,
    output: Brigade,
    gathered: Cell<usize>,
    eos_seen: Cell<bool>,
    closed: Cell<bool>,
    disabled: Cell<bool>,
}

/// What stays with a filter instance between its runs.
struct Instance {
    id: u32,
    /// Hands everything on from now on.
    transparent: Cell<bool>,
    closed: Cell<bool>,
}

impl Run {
    /// Where the filter's output goes.
    pub(crate) fn output(&self) -> Brigade {
        self.output
    }

    /// Counts output; passes it on when there is much of it.
    pub(crate) fn gathered(&self, n: usize) {
        let now = self.gathered.get() + n;
        self.gathered.set(now);
        if now >= GATHER {
            self.pass();
        }
    }

    fn pass(&self) -> i32 {
        self.gathered.set(0);
        let status = filter::pass(self.filter.next(), self.output);
        self.output.clear();
        status
    }
}

/// The function behind every Python output filter.
pub(crate) fn run_output(f: Filter, bb: Brigade) -> i32 {
    let Some(r) = f.request() else { return filter::pass(f.next(), bb) };
    let (tree, entry) = Tree::of(r);
    let instance = instance(f, &tree);
    if instance.transparent.get() {
        return filter::pass(f.next(), bb);
    }
    let name = f.name();
    let own = entry.own_filters.borrow().iter().find(|d| !d.is_input && *d.name == *name).cloned();
    let Some(definition) = own.or_else(|| r.dir_conf()?.filter(name, false).cloned()) else {
        // Registered somewhere, not for this place.
        instance.transparent.set(true);
        return filter::pass(f.next(), bb);
    };
    if instance.closed.get() {
        bb.clear();
        return sys::APR_SUCCESS;
    }
    let Some(output) = Brigade::new(r.pool(), r.connection()) else { return sys::APR_EGENERAL };
    let run = Rc::new(Run {
        filter: f,
        input: bb,
        output,
        gathered: Cell::new(0),
        eos_seen: Cell::new(false),
        closed: Cell::new(false),
        disabled: Cell::new(false),
    });
    let reference = FilterRef { id: instance.id, name, is_input: false };
    let level = Level { entry: Some(Rc::clone(&entry)), filter: Some(Rc::clone(&run)) };
    let handlers = [definition.handler.to_ref()];
    let done = phases::run(r, &tree, &level, Phase::OutputFilter, &handlers, Some(reference), None);
    let status = match done {
        Ok(_) => finish(&run, &instance),
        Err(fault) => {
            phases::log_fault(r, Phase::OutputFilter, &fault);
            // Neither the unfiltered content nor a complete-looking part of it may go out.
            instance.transparent.set(true);
            r.mark_broken();
            run.output.clear();
            bb.clear();
            run.output.push_error(fault.status(), r);
            run.output.push_eos();
            let _ = run.pass();
            sys::AP_FILTER_ERROR
        }
    };
    run.output.destroy();
    status
}

fn finish(run: &Run, instance: &Instance) -> i32 {
    if run.disabled.get() {
        instance.transparent.set(true);
        while !run.input.is_empty() {
            run.input.move_first(run.output);
        }
        if run.eos_seen.get() && !run.closed.get() {
            run.output.push_eos();
        }
    } else if run.closed.get() {
        instance.closed.set(true);
    } else {
        // Left unread: the data was not wanted, but the end of the stream must get through.
        while !run.input.is_empty() {
            match run.input.peek() {
                Next::Eos => run.eos_seen.set(true),
                Next::Meta | Next::Flush => {
                    run.input.move_first(run.output);
                    continue;
                }
                _ => {}
            }
            run.input.drop_first();
        }
        if run.eos_seen.get() {
            instance.closed.set(true);
            run.output.push_eos();
        }
    }
    run.input.clear();
    if run.output.is_empty() { sys::APR_SUCCESS } else { run.pass() }
}

#[allow(unsafe_code)]
fn instance<'f>(f: Filter, tree: &Rc<Tree>) -> &'f Instance {
    // SAFETY: only this function sets the context of our filters, to an `Instance` that the request's pool owns; the
    // filter goes with the request.
    unsafe {
        if let Some(known) = f.context().cast::<Instance>().as_ref() {
            return known;
        }
    }
    let new = Instance {
        id: tree.next_filter(),
        transparent: Cell::new(false),
        closed: Cell::new(false),
    };
    // The caller has checked that the filter belongs to a request.
    let pool = f.request().map(crate::apache::request::Request::pool);
    let new: &'f Instance = match pool {
        Some(pool) => pool.own(new),
        None => Box::leak(Box::new(new)),
    };
    f.set_context(core::ptr::from_ref(new).cast_mut().cast());
    new
}

/// `FilterRead`: the next bytes of the brigade.
pub(crate) fn read(
    c: &Conversation,
    run: &Run,
    header: Header,
    want: Option<u64>,
) -> Result<(), Fault> {
    let want = want.unwrap_or(u64::MAX);
    let mut total = 0;
    while total < want && !run.eos_seen.get() {
        match run.input.peek() {
            Next::Empty => break,
            Next::Eos => run.eos_seen.set(true),
            Next::Flush | Next::Meta => {
                run.input.move_first(run.output);
                continue;
            }
            Next::Data(data) => {
                let left = usize::try_from(want - total).unwrap_or(usize::MAX);
                let take = data.len().min(left);
                for part in data[..take].chunks(vivarium_protocol::frame::MAX_BODY) {
                    c.send_data(header, part)?;
                }
                total += take as u64;
                if take < data.len() && !run.input.split_first(take) {
                    return Err(c.broken("a bucket cannot be split".into()));
                }
            }
            Next::Failed(status) => {
                let text = format!("the content to be filtered cannot be read (status {status})");
                let kind = vivarium_protocol::message::ErrorKind::Io;
                return c.reply(header, &Reply::Error { kind, text: text.as_bytes() });
            }
        }
        run.input.drop_first();
    }
    if total == 0 && run.eos_seen.get() {
        return c.reply(header, &Reply::None);
    }
    c.reply(header, &Reply::Int(total as i64))
}

fn passed(c: &Conversation, run: &Run, header: Header) -> Result<(), Fault> {
    if run.pass() == sys::APR_SUCCESS {
        return c.reply(header, &Reply::Ok);
    }
    let kind = vivarium_protocol::message::ErrorKind::Io;
    c.reply(header, &Reply::Error { kind, text: super::body::CLIENT_GONE })
}

/// `FilterFlush`.
pub(crate) fn flush(c: &Conversation, run: &Run, header: Header) -> Result<(), Fault> {
    run.output.push_flush();
    passed(c, run, header)
}

/// `FilterClose`: the end of the stream.
pub(crate) fn close(c: &Conversation, run: &Run, header: Header) -> Result<(), Fault> {
    if run.closed.replace(true) {
        return c.reply(header, &Reply::Ok);
    }
    run.output.push_eos();
    passed(c, run, header)
}

/// `FilterPassOn`: the rest of the brigade as it is.
pub(crate) fn pass_on(c: &Conversation, run: &Run, header: Header) -> Result<(), Fault> {
    while !run.input.is_empty() {
        if run.input.peek() == Next::Eos {
            run.eos_seen.set(true);
            run.closed.set(true);
        }
        run.input.move_first(run.output);
    }
    passed(c, run, header)
}

/// `FilterDisable`: transparent from the end of this run on.
pub(crate) fn disable(c: &Conversation, run: &Run, header: Header) -> Result<(), Fault> {
    run.disabled.set(true);
    c.reply(header, &Reply::Ok)
}
