//! The phases of a request: when Python runs, and what its result or its failure becomes.

use std::rc::Rc;
use std::sync::Arc;

use vivarium_protocol::codes;
use vivarium_protocol::control::PoolKey;
use vivarium_protocol::message::{HandlerRef, Phase, TableId};
use vivarium_protocol::policy::{Grants, is_default};

use super::exchange::Level;
use super::tree::{Entry, Tree};
use super::{Fault, after, body, run};
use crate::apache::log;
use crate::apache::request::Request;
use crate::config::dir::{DirConf, HandlerList, for_file};
use crate::grants::{self, Refusal};
use crate::sys;
use crate::tenants::{self, throttle};

/// What mod_python logs for an authentication handler that forgets whom it has let in.
const NO_USER: &[u8] =
    b"python_handler: After PythonAuthenHandler req->user is NULL. Assign something to \
    req.user if returning OK to avoid this error.";

fn is_ours(r: Request<'_>) -> bool {
    matches!(r.handler(), Some(b"mod_python" | b"python-program"))
}

/// The content handlers' hook, before any: what another handler takes its time for is none of a tenant's.
pub(crate) fn before_content(r: Request<'_>) -> i32 {
    if !is_ours(r) {
        answered(r, sys::OK);
    }
    sys::DECLINED
}

/// httpd makes an error page of its own.
pub(crate) fn error_page(r: Request<'_>) {
    if let Some((tree, _)) = Tree::known(r) {
        tree.answered();
    }
}

/// Gives back the places of a request whose content has had its turn. An error may have a page of Python's, and filters
/// have not seen the end yet.
fn answered(r: Request<'_>, result: i32) {
    let more = r.main().is_some() || result >= sys::HTTP_BAD_REQUEST;
    if !more
        && let Some((tree, _)) = Tree::known(r)
        && (r.has_ended() || !crate::hooks::has_output_filter(r))
    {
        tree.answered();
    }
}

/// The content handler's hook.
pub(crate) fn content(r: Request<'_>) -> i32 {
    let result = if is_ours(r) { our_content(r) } else { not_ours(r) };
    answered(r, result);
    result
}

fn our_content(r: Request<'_>) -> i32 {
    let Some((tree, entry, done)) = run_configured(r, Phase::Content) else { return sys::DECLINED };
    drop(tree);
    match done {
        Ok(sys::DECLINED) => not_ours(r),
        Ok(result) => result,
        Err(fault) => {
            retry_after(r, &fault);
            if entry.output.begun() || r.output_begun() {
                body::break_off(&entry);
                return sys::OK;
            }
            body::drop_gathered(&entry);
            fault.status()
        }
    }
}

/// Another handler sends the file.
fn not_ours(r: Request<'_>) -> i32 {
    let Some((_, entry)) = Tree::known(r).filter(|(_, e)| e.file_told.get()) else {
        return sys::DECLINED;
    };
    let name = tenants::of(r);
    if let Some(policy) = tenants::get(&name).confined()
        && let Some(done) = grants::serve::named_file(&name, &policy, &entry, r)
    {
        return done;
    }
    // Not more of it than there is, whatever Python says.
    r.limit_file_size();
    sys::DECLINED
}

/// Whether a confined tenant may be asked before the request is in one of its sections: its virtual host is one.
///
/// # Errors
/// Nobody can say what it may.
fn may_be_early(r: Request<'_>, key: &PoolKey, phase: Phase) -> Result<bool, Fault> {
    let name = &*key.tenant;
    if is_default(name) || r.server().is_virtual() {
        return Ok(true);
    }
    let tenant = tenants::get(name);
    if !tenant.is_told() {
        run::find_pool(key)?;
    }
    let policy = tenant.policy();
    if policy.allows(Grants::EARLY_PHASES) {
        return Ok(true);
    }
    let refusal = Refusal::grant(phase.directive(), Grants::EARLY_PHASES);
    grants::complain_of(r, name, &refusal);
    Ok(false)
}

/// `access_checker`.
pub(crate) fn access(r: Request<'_>) -> i32 {
    if grants::calls::strayed(r) {
        return sys::HTTP_FORBIDDEN;
    }
    early(r, Phase::Access)
}

/// Every other phase that happens before the content: a failure is an error status, never `DECLINED`, so that nothing
/// falls open.
pub(crate) fn early(r: Request<'_>, phase: Phase) -> i32 {
    match run_configured(r, phase) {
        None => sys::DECLINED,
        // httpd would answer 500 by itself; this says whose doing it is.
        Some((_, _, Ok(sys::OK))) if phase == Phase::Authen && !r.has_user() => {
            log::request(r, log::Level::Err as i32, NO_USER);
            sys::HTTP_INTERNAL_SERVER_ERROR
        }
        Some((_, _, Ok(result))) => result,
        Some((_, _, Err(fault))) => {
            retry_after(r, &fault);
            match fault {
                Fault::Unavailable { .. } => sys::HTTP_SERVICE_UNAVAILABLE,
                Fault::Died(_) | Fault::Broken(_) => sys::HTTP_INTERNAL_SERVER_ERROR,
                Fault::TooLong(_) => sys::HTTP_GATEWAY_TIME_OUT,
            }
        }
    }
}

/// `post_read_request`: also the server level's `PythonInitHandler`.
pub(crate) fn post_read(r: Request<'_>) -> i32 {
    match early(r, Phase::PostReadRequest) {
        sys::OK | sys::DECLINED => early(r, Phase::Init),
        other => other,
    }
}

/// `translate_name`: where a `<Location>` has Python handlers, a request is not mapped to a file.
pub(crate) fn translate(r: Request<'_>) -> i32 {
    match early(r, Phase::Trans) {
        sys::DECLINED if in_location(r) => sys::OK,
        other => other,
    }
}

fn in_location(r: Request<'_>) -> bool {
    r.dir_conf().and_then(|c| c.in_location) == Some(true)
}

/// `map_to_storage`: without a file `<Directory>` sections and `.htaccess` files are not looked at. A file that a
/// handler has set is mapped like any other, with whatever its directory forbids.
pub(crate) fn map_to_storage(r: Request<'_>) -> i32 {
    if in_location(r) && r.filename().is_none() { sys::OK } else { sys::DECLINED }
}

/// `header_parser`: first a section's own `PythonInitHandler`, which `post_read_request` could not know.
pub(crate) fn header_parser(r: Request<'_>) -> i32 {
    let list = |c: Option<&DirConf>| {
        c.and_then(|c| c.handlers(Phase::Init, r.filename())).map(|l| Arc::clone(&l.handlers))
    };
    let own = list(r.dir_conf());
    let known = list(r.server().default_dir_conf());
    let is_new = match (&own, &known) {
        (Some(own), Some(known)) => !Arc::ptr_eq(own, known),
        (own, None) => own.is_some(),
        (None, Some(_)) => false,
    };
    if is_new {
        match early(r, Phase::Init) {
            sys::OK | sys::DECLINED => {}
            other => return other,
        }
    }
    early(r, Phase::HeaderParser)
}

/// `log_transaction`: the answer has been sent and the request is about to go. What Python should see of it is taken
/// down now; it runs afterwards.
pub(crate) fn log_transaction(r: Request<'_>) -> i32 {
    let Some(conf) = r.dir_conf() else { return sys::DECLINED };
    let known = Tree::known(r);
    let wanted = known.as_ref().is_some_and(|(_, e)| e.wants(Phase::Log));
    let list = conf.handlers(Phase::Log, r.filename());
    if list.is_some() || wanted {
        let (tree, entry) = Tree::of(r);
        after::take_down(&tree, &entry, r, list);
    }
    let mut next = Some(r);
    while let Some(r) = next {
        note_cleanup(r);
        next = r.next();
    }
    sys::DECLINED
}

/// Notes which clean-up handlers a request has by its configuration now. They run only where some Python ran before.
fn note_cleanup(r: Request<'_>) {
    let list = r.dir_conf().and_then(|c| c.handlers(Phase::Cleanup, r.filename()));
    if let (Some((_, entry)), Some(list)) = (Tree::known(r), list) {
        entry.set_cleanup_handlers(run::pool_key(r, &list.handlers), Arc::clone(&list.handlers));
    }
}

/// `fixups`. The clean-up handlers of a sub-request are noted here: nobody is told of its end, and its configuration is
/// complete now.
pub(crate) fn fixups(r: Request<'_>) -> i32 {
    if grants::calls::strayed(r) {
        return sys::HTTP_FORBIDDEN;
    }
    let result = early(r, Phase::Fixup);
    if r.main().is_some() {
        note_cleanup(r);
    }
    result
}

type Done = (Rc<Tree>, Rc<Entry>, Result<i32, Fault>);

/// Runs the handlers that are configured for a phase, or that Python has added to this request; `None` if there are
/// none.
fn run_configured(r: Request<'_>, phase: Phase) -> Option<Done> {
    let list: Option<&HandlerList> = r.dir_conf().and_then(|c| c.handlers(phase, r.filename()));
    let added = Tree::known(r).is_some_and(|(_, e)| e.wants(phase));
    if list.is_none() && !added {
        return None;
    }
    let (tree, entry) = Tree::of(r);
    let level = Level::request(Rc::clone(&entry), phase == Phase::Content);
    let definitions = for_file(list.map_or(&[][..], |l| &l.handlers), r.filename());
    let handlers: Vec<HandlerRef<'_>> = definitions.iter().map(|h| h.to_ref()).collect();
    let extension = list.and_then(|l| l.extension.as_deref());
    let key = run::pool_key(r, &definitions);
    if matches!(phase, Phase::PostReadRequest | Phase::Trans) {
        match may_be_early(r, &key, phase) {
            Ok(true) => {}
            Ok(false) => return Some((tree, entry, Ok(sys::HTTP_FORBIDDEN))),
            Err(fault) => {
                log_fault(r, phase, &fault);
                return Some((tree, entry, Err(fault)));
            }
        }
    }
    let mut others = if added { entry.wanted_in(phase) } else { Vec::new() };
    let is_own = list.is_some() || others.contains(&key);
    others.retain(|other| *other != key);
    let mut done = None;
    if is_own {
        let what = run::What { phase, handlers: &handlers, filter: None, extension };
        done = Some(run_in(r, &key, &tree, &entry, &level, &what));
    }
    // What was added before the request came to this section is where it was added.
    for other in others {
        if done.as_ref().is_some_and(|done| !goes_on(phase, done)) {
            break;
        }
        let next = if other.tenant == key.tenant || is_default(&other.tenant) {
            let what = run::What { phase, handlers: &[], filter: None, extension: None };
            run_in(r, &other, &tree, &entry, &level, &what)
        } else {
            stray_handler(r, phase, &other.tenant);
            Ok(sys::HTTP_INTERNAL_SERVER_ERROR)
        };
        done = match (done, next) {
            (Some(before), Ok(sys::DECLINED)) => Some(before),
            (_, next) => Some(next),
        };
    }
    done.map(|done| (tree, entry, done))
}

/// Runs a phase in one pool.
fn run_in(
    r: Request<'_>,
    key: &PoolKey,
    tree: &Rc<Tree>,
    entry: &Rc<Entry>,
    level: &Level,
    what: &run::What<'_>,
) -> Result<i32, Fault> {
    match run::run(r, key, tree, level, what) {
        Ok(_) if is_spoiled(entry) => {
            body::drop_gathered(entry);
            Ok(sys::HTTP_INTERNAL_SERVER_ERROR)
        }
        Ok(leave) => Ok(result(leave.result)),
        Err(fault) => {
            log_fault(r, what.phase, &fault);
            Err(fault)
        }
    }
}

/// Whether the handlers of another pool follow after this result: by the rule that the dispatcher has for a list.
fn goes_on(phase: Phase, done: &Result<i32, Fault>) -> bool {
    match (phase, done) {
        (Phase::Trans | Phase::Authen | Phase::Authz | Phase::Type, Ok(n)) => *n == sys::DECLINED,
        // Its answer has ended.
        (Phase::Content, _) | (_, Err(_)) => false,
        (_, Ok(n)) => matches!(*n, sys::OK | sys::DECLINED),
    }
}

/// A tenant whose handler an earlier phase has added may not see the request any more, and without it the request may not go
/// on: what the handler would have forbidden is not known.
fn stray_handler(r: Request<'_>, phase: Phase, tenant: &str) {
    let line = format!(
        "{}: {}: tenant {tenant} has added a handler in an earlier phase, and the request has come to a section of another \
         tenant: configure the handler in that section",
        codes::STRAY_HANDLER,
        phase.directive()
    );
    log::request(r, log::Level::Err as i32, line.as_bytes());
}

/// Whether Python has set what cannot be sent, or what it may not set and was not told of: then the answer is an error,
/// as long as none has begun.
fn is_spoiled(entry: &Entry) -> bool {
    let (bad, untold) = (entry.bad_header.take(), entry.guard.take_untold().is_some());
    (bad || untold) && !entry.output.begun()
}

fn retry_after(r: Request<'_>, fault: &Fault) {
    if let (Fault::Unavailable { retry_after, .. }, Some(t)) =
        (fault, r.table(TableId::ErrHeadersOut))
    {
        t.set(r.pool(), b"Retry-After", retry_after.to_string().as_bytes());
    }
}

/// What a worker says a phase's result is, limited to what httpd understands.
fn result(n: i32) -> i32 {
    match n {
        sys::OK | sys::DECLINED | sys::DONE | 100..=599 => n,
        _ => sys::HTTP_INTERNAL_SERVER_ERROR,
    }
}

/// One log line about a phase that failed.
pub(crate) fn log_fault(r: Request<'_>, phase: Phase, fault: &Fault) {
    let (code, reason) = fault.code_and_reason();
    let mut text = format!("{code}: {}: {reason}", phase.directive());
    let tenant = tenants::of(r);
    if !is_default(&tenant) && matches!(fault, Fault::Unavailable { .. }) {
        // A tenant that cannot be served must not fill the log.
        let Some(left_out) = throttle::allow(&tenant, "unavailable", 1) else { return };
        text.push_str(&throttle::more(left_out));
    }
    log::request(r, log::Level::Err as i32, text.as_bytes());
}
