//! Python as a provider of httpd's authentication and authorisation modules: `AuthBasicProvider python`,
//! `AuthDigestProvider python`, `Require python-group`.
//!
//! Whatever fails is an error or a refusal, never a grant.

use std::rc::Rc;

use vivarium_protocol::message::{HandlerRef, Phase};

use super::exchange::Level;
use super::tree::Tree;
use super::{phases, run};
use crate::apache::request::Request;
use crate::config::dir::for_file;

/// What a provider said.
pub(crate) enum Verdict {
    /// Wrong password, or not in any of the groups.
    No,
    /// Right; with the realm's hash where one was asked for.
    Yes(Option<Vec<u8>>),
    /// No such user.
    Unknown,
    /// It could not be asked.
    Error,
}

/// Asks the provider that is configured for a place.
pub(crate) fn ask(r: Request<'_>, phase: Phase, arguments: Vec<Vec<u8>>) -> Verdict {
    // One directive names the object for both kinds of password checks.
    let configured = if phase == Phase::RealmHash { Phase::CheckPassword } else { phase };
    let list = r.dir_conf().and_then(|c| c.handlers(configured, None));
    let Some(list) = list.filter(|l| !l.handlers.is_empty()) else {
        let text =
            format!("{}: no {} is set here", vivarium_protocol::codes::CONFIG, phase.directive());
        crate::apache::log::request(r, crate::apache::log::Level::Err as i32, text.as_bytes());
        return Verdict::Error;
    };
    let (tree, entry) = Tree::of(r);
    let level = Level::with_arguments(Rc::clone(&entry), arguments);
    let definitions = for_file(&list.handlers, r.filename());
    let handlers: Vec<HandlerRef<'_>> = definitions.iter().map(|h| h.to_ref()).collect();
    let key = run::pool_key(r, &definitions);
    let what = run::What { phase, handlers: &handlers, filter: None, extension: None };
    match run::run(r, &key, &tree, &level, &what) {
        Ok(leave) => match leave.result {
            0 => Verdict::No,
            1 => Verdict::Yes(level.answer.take()),
            2 => Verdict::Unknown,
            _ => Verdict::Error,
        },
        Err(fault) => {
            phases::log_fault(r, phase, &fault);
            Verdict::Error
        }
    }
}
