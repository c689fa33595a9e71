//! Python filters: a run is one call of the filter with one brigade.
//!
//! An output filter is given a brigade and passes its own output on. An input filter is asked for data: it fetches one
//! brigade from the filter before it when Python reads, and what Python writes is the answer.

use std::cell::Cell;
use std::rc::Rc;

use vivarium_protocol::frame::{BODY_CLOSE, BODY_FLUSH, Header, MAX_BODY};
use vivarium_protocol::message::{
    FILTER_AHEAD, FILTER_SYNC, FilterRef, HandlerRef, Phase, Reply, Then,
};
use vivarium_protocol::policy::DEFAULT_TENANT;

use super::body::GATHER;
use super::exchange::{Conversation, Level};
use super::run::{self, What};
use super::tree::{Entry, Tree};
use super::{Fault, phases};
use crate::apache::brigade::{Brigade, Next, Size};
use crate::apache::filter::{self, Demand, Filter};
use crate::apache::request::Request;
use crate::config::dir::{Bytes, FilterDef, Handler, for_file};
use crate::sys;
use crate::tenants;

/// One run.
pub(crate) struct Run {
    filter: Filter,
    /// For input filters: how data was asked for; taken when it is fetched.
    demand: Cell<Option<Demand>>,
    is_input: bool,
    /// The output is not passed on: the caller takes it.
    keeps_output: bool,
    /// Fetching failed: the APR status.
    failed: Cell<i32>,
    input: Brigade,
    output: Brigade,
    gathered: Cell<usize>,
    eos_seen: Cell<bool>,
    /// What was read asked to be sent on at once.
    flush_seen: Cell<bool>,
    closed: Cell<bool>,
    disabled: Cell<bool>,
    /// Python comes after this filter: it must be waiting whenever output is passed on.
    before_python: bool,
}

/// What stays with a filter instance between its runs.
struct Instance {
    id: u32,
    /// The name of a filter that a handler registered for its request; httpd knows these by one name for all.
    name: Option<Bytes>,
    /// Hands everything on from now on.
    transparent: Cell<bool>,
    closed: Cell<bool>,
}

impl Instance {
    fn name(&self, f: Filter) -> &[u8] {
        self.name.as_deref().unwrap_or_else(|| f.name())
    }
}

impl Run {
    /// Where the filter's output goes.
    pub(crate) fn output(&self) -> Brigade {
        self.output
    }

    /// Counts output; passes it on when there is much of it. Python waits for this if `sync`: false if it should have.
    pub(crate) fn gathered(&self, n: usize, sync: bool) -> bool {
        let now = self.gathered.get() + n;
        self.gathered.set(now);
        if now < GATHER {
            return true;
        }
        if self.before_python && !sync {
            return now <= FILTER_SYNC + MAX_BODY;
        }
        self.pass();
        true
    }

    fn new(filter: Filter, input: Brigade, output: Brigade, demand: Option<Demand>) -> Rc<Self> {
        Rc::new(Self::plain(filter, input, output, demand))
    }

    fn plain(filter: Filter, input: Brigade, output: Brigade, demand: Option<Demand>) -> Self {
        Self {
            filter,
            before_python: demand.is_none() && crate::hooks::is_before_output_filter(filter),
            is_input: demand.is_some(),
            keeps_output: demand.is_some(),
            demand: Cell::new(demand),
            failed: Cell::new(sys::APR_SUCCESS),
            input,
            output,
            gathered: Cell::new(0),
            eos_seen: Cell::new(false),
            flush_seen: Cell::new(false),
            closed: Cell::new(false),
            disabled: Cell::new(false),
        }
    }

    /// An SSI element: nothing to read, and its output stays where it is.
    pub(crate) fn element(filter: Filter, input: Brigade, output: Brigade) -> Rc<Self> {
        let plain = Self::plain(filter, input, output, None);
        Rc::new(Self { keeps_output: true, before_python: false, ..plain })
    }

    /// Takes what is there of the brigade, if it is in memory, to be sent to Python before it asks.
    fn take_ahead(&self) -> (Vec<u8>, Then) {
        let mut ahead = Vec::new();
        loop {
            match self.input.size_of_first() {
                Size::Empty => return (ahead, Then::Nothing),
                Size::Data(n) if ahead.len() as u64 + n <= FILTER_AHEAD as u64 => {}
                Size::Eos => {}
                Size::Meta if self.input.peek() == Next::Flush => {}
                Size::Data(_) | Size::Unknown | Size::Meta => return (ahead, Then::Ask),
            }
            match self.input.peek() {
                // Reading may give less than the bucket had: the rest is in the next one.
                Next::Data(data) => ahead.extend_from_slice(data),
                Next::Flush => self.flush_seen.set(true),
                Next::Eos => self.eos_seen.set(true),
                Next::Meta | Next::Failed(_) | Next::Empty => return (ahead, Then::Ask),
            }
            self.input.drop_first();
            if self.eos_seen.get() {
                return (ahead, Then::End);
            }
        }
    }

    /// Hands output to the next filter. An input filter's output stays: it is what the caller asked for.
    fn pass(&self) -> i32 {
        self.gathered.set(0);
        if self.keeps_output {
            return sys::APR_SUCCESS;
        }
        let status = filter::pass(self.filter.next(), self.output);
        self.output.clear();
        status
    }
}

/// The filter that is configured for a place, or registered for this request, and whose it is if not the place's tenant's.
///
/// What a confined tenant has registered runs where the request is still its own: another's Python is not told what to
/// run, and what another writes is not shown. The administrator's runs everywhere, as the administrator's.
fn definition(
    r: Request<'_>,
    entry: &Entry,
    name: &[u8],
    is_input: bool,
) -> Option<(FilterDef, Option<Box<str>>)> {
    let here = tenants::of(r);
    if let Some(own) = entry.own_filter(&here, name, is_input) {
        return Some((own.definition, None));
    }
    if let Some(own) = entry.own_filter(DEFAULT_TENANT, name, is_input) {
        return Some((own.definition, Some(own.tenant)));
    }
    r.dir_conf()?.filter(name, is_input).cloned().map(|f| (f, None))
}

/// Runs a filter's Python once.
fn enter(
    r: Request<'_>,
    id: u32,
    run: &Rc<Run>,
    (definition, whose): &(FilterDef, Option<Box<str>>),
) -> Result<(), Fault> {
    let (tree, entry) = Tree::of(r);
    let is_input = run.is_input;
    let phase = if is_input { Phase::InputFilter } else { Phase::OutputFilter };
    let (ahead, then) = if is_input { (Vec::new(), Then::Ask) } else { run.take_ahead() };
    let reference = FilterRef {
        id,
        name: &definition.name,
        is_input,
        is_sync: run.before_python,
        ahead: &ahead,
        then,
    };
    let level = Level::filter(entry, Rc::clone(run));
    let definitions = for_file(core::slice::from_ref(&definition.handler), r.filename());
    let handlers: Vec<HandlerRef<'_>> = definitions.iter().map(Handler::to_ref).collect();
    let what = What { phase, handlers: &handlers, filter: Some(reference), extension: None };
    let mut key = run::pool_key(r, &definitions);
    if let Some(tenant) = whose {
        key.tenant = String::from(&**tenant);
    }
    run::run(r, &key, &tree, &level, &what).map(|_| ()).inspect_err(|fault| {
        phases::log_fault(r, phase, fault);
    })
}

/// The function behind every Python output filter.
pub(crate) fn run_output(f: Filter, bb: Brigade) -> i32 {
    let Some(r) = f.request() else { return filter::pass(f.next(), bb) };
    let status = output(f, r, bb);
    if r.main().is_none()
        && r.has_ended()
        && let Some((tree, _)) = Tree::known(r)
    {
        tree.answered();
    }
    status
}

fn output(f: Filter, r: Request<'_>, bb: Brigade) -> i32 {
    let (tree, entry) = Tree::of(r);
    let instance = instance(f, r, &tree);
    if instance.transparent.get() {
        return filter::pass(f.next(), bb);
    }
    let Some(definition) = definition(r, &entry, instance.name(f), false) else {
        // Registered somewhere, not for this place.
        instance.transparent.set(true);
        return filter::pass(f.next(), bb);
    };
    if instance.closed.get() {
        bb.clear();
        return sys::APR_SUCCESS;
    }
    let Some(output) = Brigade::new(r.pool(), r.connection()) else { return sys::APR_EGENERAL };
    let this = Run::new(f, bb, output, None);
    let status = if enter(r, instance.id, &this, &definition).is_ok() {
        finish(&this, instance)
    } else {
        // Neither the unfiltered content nor a complete-looking part of it may go out.
        instance.transparent.set(true);
        r.mark_broken();
        this.output.clear();
        bb.clear();
        // The status that httpd's filters know as "broken off", whatever the cause.
        this.output.push_error(sys::HTTP_BAD_GATEWAY, r);
        this.output.push_eos();
        let _ = this.pass();
        sys::AP_FILTER_ERROR
    };
    output.destroy();
    status
}

/// The function behind every Python input filter.
pub(crate) fn run_input(f: Filter, bb: Brigade, demand: Demand) -> i32 {
    let Some(r) = f.request().filter(|_| demand.is_for_data()) else {
        return filter::fetch(f.next(), bb, demand);
    };
    let (tree, entry) = Tree::of(r);
    let instance = instance(f, r, &tree);
    let definition = match definition(r, &entry, instance.name(f), true) {
        Some(definition) if !instance.transparent.get() => definition,
        _ => return filter::fetch(f.next(), bb, demand),
    };
    if instance.closed.get() {
        bb.push_eos();
        return sys::APR_SUCCESS;
    }
    let Some(input) = Brigade::new(r.pool(), r.connection()) else { return sys::APR_EGENERAL };
    let mut status = sys::APR_SUCCESS;
    // A filter may swallow a whole brigade; its caller waits for data or for the end.
    while status == sys::APR_SUCCESS && bb.is_empty() && !instance.closed.get() {
        let this = Run::new(f, input, bb, Some(demand));
        status = match enter(r, instance.id, &this, &definition) {
            Ok(()) if this.failed.get() != sys::APR_SUCCESS => this.failed.get(),
            Ok(()) => finish(&this, instance),
            Err(_) => sys::APR_EGENERAL,
        };
        if instance.transparent.get() {
            break;
        }
    }
    if status != sys::APR_SUCCESS {
        bb.clear();
    } else if bb.is_empty() && instance.transparent.get() {
        status = filter::fetch(f.next(), bb, demand);
    }
    input.destroy();
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
    } else if run.is_input && run.demand.get().is_some() {
        // Python has not even asked: then the data goes by as it is.
        let demand = run.demand.take();
        let status =
            demand.map_or(sys::APR_SUCCESS, |d| filter::fetch(run.filter.next(), run.input, d));
        while !run.input.is_empty() {
            run.input.move_first(run.output);
        }
        return status;
    } else {
        // Left unread: the data was not wanted, but the end of the stream must get through.
        while !run.input.is_empty() {
            match run.input.peek() {
                Next::Eos => run.eos_seen.set(true),
                Next::Flush => run.flush_seen.set(true),
                Next::Meta => {
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
    if run.flush_seen.get() && !instance.closed.get() {
        run.output.push_flush();
    }
    run.input.clear();
    if run.output.is_empty() { sys::APR_SUCCESS } else { run.pass() }
}

fn new_instance<'r>(r: Request<'r>, tree: &Tree, name: Option<Bytes>) -> &'r Instance {
    r.pool().own(Instance {
        id: tree.next_filter(),
        name,
        transparent: Cell::new(false),
        closed: Cell::new(false),
    })
}

#[allow(unsafe_code)]
fn instance<'f>(f: Filter, r: Request<'f>, tree: &Rc<Tree>) -> &'f Instance {
    // SAFETY: only this module sets the context of our filters, to an `Instance` that the request's pool owns; the
    // filter goes with the request.
    unsafe {
        if let Some(known) = f.context().cast::<Instance>().as_ref() {
            return known;
        }
    }
    let new = new_instance(r, tree, None);
    f.set_context(core::ptr::from_ref(new).cast_mut().cast());
    new
}

/// The names under which httpd knows the filters that handlers register.
pub(crate) const OWN_NAMES: [(&[u8], bool); 2] =
    [(b"mod_python.input", true), (b"mod_python.output", false)];

/// Puts a filter on a request: one that a handler registered for it, or one that httpd knows.
/// httpd itself logs a name that nobody has registered.
pub(crate) fn add(
    r: Request<'_>,
    tree: &Tree,
    (entry, tenant): (&Entry, &str),
    name: &[u8],
    is_input: bool,
) {
    let lower = name.to_ascii_lowercase();
    if entry.own_filter(tenant, &lower, is_input).is_none() {
        filter::add(r, name, is_input, core::ptr::null_mut());
        return;
    }
    let instance = new_instance(r, tree, Some(lower.into()));
    let context = core::ptr::from_ref(instance).cast_mut().cast();
    for (own, _) in OWN_NAMES.iter().filter(|(_, input)| *input == is_input) {
        filter::add(r, own, is_input, context);
    }
}

/// `FilterRead`: the next bytes of the brigade.
pub(crate) fn read(
    c: &Conversation,
    run: &Run,
    header: Header,
    want: Option<u64>,
) -> Result<(), Fault> {
    if let Some(demand) = run.demand.take() {
        let status = filter::fetch(run.filter.next(), run.input, demand);
        if status != sys::APR_SUCCESS {
            run.failed.set(status);
            let kind = vivarium_protocol::message::ErrorKind::Io;
            return c.reply(header, &Reply::Error { kind, text: b"Client read error (Timeout?)" });
        }
    }
    let want = want.unwrap_or(u64::MAX);
    let mut total = 0;
    while total < want && !run.eos_seen.get() {
        match run.input.peek() {
            Next::Empty => break,
            Next::Eos => run.eos_seen.set(true),
            Next::Flush => run.flush_seen.set(true),
            Next::Meta => {
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

/// `Body` with the flag *flush* or *close*: the same, of which nobody wants to know how it went. False if Python should
/// wait for it.
pub(crate) fn mark(c: &Conversation, run: &Run, flags: u8) -> bool {
    let (flush, close) = (flags & BODY_FLUSH != 0, flags & BODY_CLOSE != 0);
    if !flush && !close {
        return true;
    }
    if run.before_python {
        return false;
    }
    if close && run.closed.replace(true) {
        return true;
    }
    if close {
        run.output.push_eos();
    } else {
        run.output.push_flush();
    }
    if run.pass() != sys::APR_SUCCESS {
        c.set_aborted();
    }
    true
}

/// `FilterPassOn`: the rest of the brigade as it is.
pub(crate) fn pass_on(c: &Conversation, run: &Run, header: Header) -> Result<(), Fault> {
    if let Some(demand) = run.demand.take() {
        run.failed.set(filter::fetch(run.filter.next(), run.input, demand));
    }
    while !run.input.is_empty() {
        if run.input.peek() == Next::Eos {
            run.eos_seen.set(true);
            run.closed.set(true);
        }
        run.input.move_first(run.output);
    }
    // The end was among what was sent ahead.
    if run.eos_seen.get() && !run.closed.replace(true) {
        run.output.push_eos();
    } else if run.flush_seen.take() {
        run.output.push_flush();
    }
    passed(c, run, header)
}

/// `FilterDisable`: transparent from the end of this run on.
pub(crate) fn disable(c: &Conversation, run: &Run, header: Header) -> Result<(), Fault> {
    run.disabled.set(true);
    c.reply(header, &Reply::Ok)
}
