//! Bodies: what the worker writes, what it reads, and files that it hands over as descriptors.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{FileType, OFlags};
use vivarium_protocol::codes;
use vivarium_protocol::frame::{BODY_FILTER, BODY_FLUSH, BODY_SYNC, Header};
use vivarium_protocol::message::{ErrorKind, Reply};

use super::Fault;
use super::exchange::{Conversation, Level};
use super::filters;
use super::promise::Promise;
use super::tree::{Entry, Tree};
use crate::apache::brigade::{Brigade, Next};
use crate::apache::filter;
use crate::apache::log;
use crate::sys;

/// What is gathered before it is passed on without a flush, in bytes.
pub(crate) const GATHER: usize = 128 << 10;
/// Bodies up to here need little room on the way.
const TINY: usize = 256;
/// Bodies smaller than this are copied into shared buckets; larger ones get a bucket of their own.
const SMALL: usize = 4096;
/// Bodies from here on go into buffers that are used again.
const LARGE: usize = 16 << 10;
/// How much is asked of httpd's input filters at a time.
const READ_PIECE: u64 = 64 << 10;
/// The most files that one answer may hold open: they stay so until the request ends.
const MAX_FILES: u32 = 256;

/// The error that mod_python raised.
pub(crate) const CLIENT_GONE: &[u8] = b"Write failed, client closed connection.";

/// A request's output on its way to the first filter.
#[derive(Default)]
pub(crate) struct Output {
    brigade: Cell<Option<Brigade>>,
    gathered: Cell<usize>,
    flush: Cell<bool>,
    /// Something has been handed to httpd's filters.
    passed: Cell<bool>,
    failed: Cell<bool>,
    /// Files handed to httpd for this request.
    files: Cell<u32>,
    /// The length that the answer has promised, if its tenant is confined.
    pub(crate) promise: Promise,
}

impl Output {
    /// The brigade's memory goes with the request.
    pub(crate) fn forget(&self) {
        self.brigade.set(None);
        self.gathered.set(0);
        self.flush.set(false);
    }
    pub(crate) fn wants_flush(&self) -> bool {
        self.flush.get()
    }
    pub(crate) fn begun(&self) -> bool {
        self.passed.get()
    }
    /// Whether the client has been sent nothing, nor should have been.
    pub(crate) fn is_unsent(&self) -> bool {
        !self.passed.get() && !self.flush.get()
    }
    /// Whether the client is gone.
    pub(crate) fn failed(&self) -> bool {
        self.failed.get()
    }
    fn brigade(&self, entry: &Entry) -> Option<Brigade> {
        if let Some(b) = self.brigade.get() {
            return Some(b);
        }
        let r = entry.request()?;
        let b = Brigade::new(r.pool(), r.connection())?;
        self.brigade.set(Some(b));
        Some(b)
    }
}

/// Hands what was gathered to the request's filters, with a flush if wanted. Python may run meanwhile.
pub(crate) fn pass(conversation: &Conversation, entry: &Entry, flush: bool) {
    hand_on(conversation, entry, flush, false);
}

/// Hands on what was written with a flush, before anything else happens to the request: whether there was time to send it
/// already makes no difference.
pub(crate) fn settle(conversation: &Conversation, entry: &Entry) {
    if entry.output.wants_flush() {
        pass(conversation, entry, true);
    }
}

/// The same at the end of an answer: what was gathered goes together with the end of the stream, so that httpd knows its
/// length (`Content-Length`, ranges) and sends it at once.
pub(crate) fn finish(conversation: &Conversation, entry: &Entry) {
    if entry.output.gathered.get() > 0 {
        hand_on(conversation, entry, false, true);
    }
}

fn hand_on(conversation: &Conversation, entry: &Entry, flush: bool, end: bool) {
    let output = &entry.output;
    output.flush.set(false);
    let waiting = output.gathered.replace(0);
    let (Some(r), true) = (entry.request(), waiting > 0 || flush) else { return };
    let Some(bb) = output.brigade(entry) else { return };
    // An error page takes the place of an answer whose head cannot be sent.
    if output.failed.get() || (entry.bad_header.get() && !output.begun()) {
        bb.clear();
        return;
    }
    if flush {
        bb.push_flush();
    }
    if end {
        bb.push_eos();
    }
    if !output.passed.replace(true) && conversation.pool().tenant().confined().is_some() {
        output.promise.begin(r, end);
    }
    let mut status = filter::pass(r.output_filters(), bb);
    bb.clear();
    if end && waiting < SMALL && status == sys::APR_SUCCESS && entry.next_is_looked_for {
        bb.push_flush();
        status = filter::pass(r.connection().output_filters(), bb);
        bb.clear();
    }
    if status != sys::APR_SUCCESS || r.connection().aborted() {
        output.failed.set(true);
        conversation.set_aborted();
    }
}

/// Drops what was gathered and not passed on: an error page takes its place.
pub(crate) fn drop_gathered(entry: &Entry) {
    if let Some(bb) = entry.output.brigade.get() {
        bb.clear();
    }
    entry.output.gathered.set(0);
    entry.output.flush.set(false);
}

/// Ends a request's answer so that the client can see that it is not whole.
pub(crate) fn break_off(entry: &Entry) {
    let Some(r) = entry.request() else { return };
    drop_gathered(entry);
    r.mark_broken();
    if let Some(bb) = entry.output.brigade(entry) {
        bb.push_error(sys::HTTP_BAD_GATEWAY, r);
        bb.push_eos();
        let _ = filter::pass(r.output_filters(), bb);
        bb.clear();
    }
}

/// A `Body` frame: appends its bytes to the output that it is for.
pub(crate) fn write(
    conversation: &Conversation,
    tree: &Rc<Tree>,
    level: &Level,
    header: Header,
) -> Result<(), Fault> {
    let len = header.len as usize;
    let into_page = level.is_element && header.rid == level.rid();
    if header.flags & BODY_FILTER != 0 || into_page {
        let Some(run) = &level.filter else {
            return Err(conversation.broken("filter output outside of a filter".into()));
        };
        append(conversation, run.output(), len)?;
        let sync = header.flags & BODY_SYNC != 0;
        let marks = if header.flags & BODY_FILTER != 0 { header.flags } else { 0 };
        let waited = run.gathered(len, sync) && filters::mark(conversation, run, marks);
        if !waited {
            return Err(conversation.broken("a filter's output that was not waited for".into()));
        }
        if sync {
            conversation.reply(header, &Reply::Ok)?;
        }
        return Ok(());
    }
    let entry = conversation.entry(tree, header.rid)?;
    let Some(bb) = entry.output.brigade(&entry) else {
        return Err(
            conversation.broken(format!("output for request {}, which is over", header.rid))
        );
    };
    let kept = entry.output.promise.take(len as u64) as usize;
    if kept == len && len >= LARGE && pass_as_it_lies(conversation, &entry, bb, header)? {
        if header.flags & BODY_SYNC == 0 {
            return Ok(());
        }
        return reply_how_it_went(conversation, &entry, header);
    }
    append(conversation, bb, kept)?;
    conversation.skip(len - kept)?;
    let gathered = entry.output.gathered.get() + kept;
    entry.output.gathered.set(gathered);
    let flush = header.flags & BODY_FLUSH != 0;
    if header.flags & BODY_SYNC != 0 {
        if flush || gathered >= GATHER {
            pass(conversation, &entry, flush);
        }
        return reply_how_it_went(conversation, &entry, header);
    }
    if flush {
        let own = level.entry.as_ref().is_some_and(|e| e.rid == entry.rid);
        if own {
            entry.output.flush.set(true);
        } else {
            pass(conversation, &entry, true);
        }
    }
    if gathered >= GATHER {
        pass(conversation, &entry, false);
    }
    Ok(())
}

fn reply_how_it_went(
    conversation: &Conversation,
    entry: &Entry,
    header: Header,
) -> Result<(), Fault> {
    if entry.output.failed() {
        let text = CLIENT_GONE;
        return conversation.reply(header, &Reply::Error { kind: ErrorKind::Io, text });
    }
    conversation.reply(header, &Reply::Ok)
}

/// Passes a large piece on from where it lies in the ring, when the answer has begun and nothing waits before it; false if
/// it has to be copied. A later piece waits for this one anyway: the client's window is the handler's.
#[allow(unsafe_code)]
fn pass_as_it_lies(
    conversation: &Conversation,
    entry: &Entry,
    bb: Brigade,
    header: Header,
) -> Result<bool, Fault> {
    let output = &entry.output;
    let Some(r) = entry.request() else { return Ok(false) };
    if !output.begun()
        || output.gathered.get() > 0
        || output.failed()
        || !filter::copies_only(r.output_filters())
    {
        return Ok(false);
    }
    let Some(pieces) = conversation.payload_places()? else { return Ok(false) };
    for (place, len) in pieces.into_iter().filter(|(_, len)| *len > 0) {
        // SAFETY: the ring stays mapped with the conversation, and these bytes stay in it until they are skipped below,
        // when the brigade is clear; the chain was looked at.
        unsafe { bb.push_transient(place, len) };
    }
    output.gathered.set(header.len as usize);
    pass(conversation, entry, header.flags & BODY_FLUSH != 0);
    conversation.skip_payload();
    Ok(true)
}

fn append(conversation: &Conversation, bb: Brigade, len: usize) -> Result<(), Fault> {
    if len == 0 {
        return Ok(());
    }
    if len <= TINY {
        let mut tiny = [0; TINY];
        conversation.read_into(&mut tiny[..len])?;
        bb.write(&tiny[..len]);
        return Ok(());
    }
    if len < SMALL {
        let mut small = [0; SMALL];
        conversation.read_into(&mut small[..len])?;
        bb.write(&small[..len]);
        return Ok(());
    }
    if len >= LARGE {
        return bb.write_large(len, |to| conversation.read_into(to));
    }
    bb.write_with(len, |to| conversation.read_into(to))
}

/// `Read` and `ReadSome`: streams request body bytes to the worker, then replies with their number.
pub(crate) fn read(
    conversation: &Conversation,
    entry: &Entry,
    header: Header,
    want: Option<u64>,
    some: bool,
) -> Result<(), Fault> {
    let Some(r) = entry.request() else {
        return conversation.reply(header, &super::calls::over());
    };
    settle(conversation, entry);
    let setup = entry.body_setup.get().unwrap_or_else(|| r.setup_client_block());
    entry.body_setup.set(Some(setup));
    if setup != sys::OK {
        let text = setup.to_string();
        let text = text.as_bytes();
        return conversation.reply(header, &Reply::Error { kind: ErrorKind::ServerReturn, text });
    }
    let Some(bb) = Brigade::new(r.pool(), r.connection()) else {
        return conversation.reply(header, &super::calls::over());
    };
    let result = read_into_lane(conversation, entry, header, bb, want.unwrap_or(u64::MAX), some);
    bb.destroy();
    match result? {
        Ok(total) => conversation.reply(header, &Reply::Int(total as i64)),
        Err(text) => conversation.reply(header, &Reply::Error { kind: ErrorKind::Io, text }),
    }
}

fn read_into_lane(
    conversation: &Conversation,
    entry: &Entry,
    header: Header,
    bb: Brigade,
    want: u64,
    some: bool,
) -> Result<Result<u64, &'static [u8]>, Fault> {
    const FAILED: &[u8] = b"Client read error (Timeout?)";
    let mut total = 0;
    while total < want && !entry.body_ended.get() {
        let Some(r) = entry.request() else { return Ok(Err(FAILED)) };
        // Whether there is a body at all; once it has begun, its end is an EOS bucket: filters may change its length.
        if !entry.body_begun.replace(true) && !r.has_body() {
            entry.body_ended.set(true);
            break;
        }
        let piece = (want - total).min(READ_PIECE);
        if filter::read(r, bb, piece as usize) != sys::APR_SUCCESS {
            return Ok(Err(FAILED));
        }
        loop {
            match bb.peek() {
                Next::Empty => break,
                Next::Eos => entry.body_ended.set(true),
                Next::Data(data) => {
                    r.count_read(data.len());
                    total += data.len() as u64;
                    for part in data.chunks(vivarium_protocol::frame::MAX_BODY) {
                        conversation.send_data(header, part)?;
                    }
                }
                Next::Failed(_) => return Ok(Err(FAILED)),
                Next::Flush | Next::Meta => {}
            }
            bb.drop_first();
        }
        if some && total > 0 {
            break;
        }
    }
    Ok(Ok(total))
}

/// `SendFile`: sends part of a file whose descriptor the worker has passed.
pub(crate) fn send_file(
    conversation: &Conversation,
    entry: &Entry,
    header: Header,
    serial: u32,
    offset: u64,
    len: Option<u64>,
) -> Result<(), Fault> {
    let pool = conversation.pool();
    let Some(r) = entry.request() else {
        return conversation.reply(header, &super::calls::over());
    };
    let refuse = |why: &str| {
        log::request(r, 4, format!("{}: {why}", codes::BAD_DESCRIPTOR).as_bytes());
        let text = why.as_bytes();
        conversation.reply(header, &Reply::Error { kind: ErrorKind::Io, text })
    };
    let Some(fd) = pool.descriptor(conversation.lane(), conversation.number(), serial) else {
        return refuse("the worker sent no descriptor for this file");
    };
    // A directory, a device or a pipe could block this thread or worse; a path-only or write-only descriptor cannot be
    // read.
    let size = match (rustix::fs::fstat(&fd), rustix::fs::fcntl_getfl(&fd)) {
        (Ok(stat), Ok(flags))
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && !flags.contains(OFlags::PATH)
                && (flags & OFlags::ACCMODE) != OFlags::WRONLY =>
        {
            u64::try_from(stat.st_size).unwrap_or(0)
        }
        _ => return refuse("only regular files that are open for reading can be sent"),
    };
    let left = size.saturating_sub(offset);
    let len = entry.output.promise.take(len.map_or(left, |n| n.min(left)));
    let Some(bb) = entry.output.brigade(entry) else {
        return conversation.reply(header, &super::calls::over());
    };
    let sent = if len <= READ_PIECE || r.connection().is_secondary() {
        send_by_reading(conversation, entry, bb, &fd, offset, len)
    } else if entry.output.files.get() >= MAX_FILES {
        return refuse("too many large files in one answer");
    } else {
        entry.output.files.set(entry.output.files.get() + 1);
        bb.push_file(fd, offset, len, r).then(|| {
            entry.output.gathered.set(entry.output.gathered.get() + 1);
            len
        })
    };
    let Some(sent) = sent else { return refuse("the file cannot be read") };
    pass(conversation, entry, true);
    if entry.output.failed() {
        return conversation
            .reply(header, &Reply::Error { kind: ErrorKind::Io, text: CLIENT_GONE });
    }
    conversation.reply(header, &Reply::Int(sent as i64))
}

/// Small files, and those of HTTP/2 streams, whose buckets move between pools: read here, piece by piece.
fn send_by_reading(
    conversation: &Conversation,
    entry: &Entry,
    bb: Brigade,
    fd: &OwnedFd,
    offset: u64,
    len: u64,
) -> Option<u64> {
    let mut piece = vec![0; READ_PIECE.min(len) as usize];
    let mut sent = 0;
    while sent < len && !entry.output.failed() {
        let want = (len - sent).min(READ_PIECE) as usize;
        let n = rustix::io::pread(fd, &mut piece[..want], offset + sent).ok()?;
        if n == 0 {
            break;
        }
        let data = &piece[..n];
        let Ok(()) = bb.write_with(n, |to| {
            to.copy_from_slice(data);
            Ok::<(), std::convert::Infallible>(())
        });
        entry.output.gathered.set(entry.output.gathered.get() + n);
        sent += n as u64;
        if entry.output.gathered.get() >= GATHER {
            pass(conversation, entry, false);
        }
    }
    Some(sent)
}
