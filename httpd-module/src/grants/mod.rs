//! What a worker may ask of httpd: grants.
//!
//! Every operation of a confined tenant's worker goes by here before httpd does anything; `docs/threat-model.md` has the
//! table. The built-in tenant's conversations look at one flag and go on.
//!
//! | module | idea |
//! |---|---|
//! | [`names`] | names and values: which are harmless, which grant others need |
//! | [`files`] | files in the document roots, links followed |
//! | [`changes`] | assignments to fields and tables |
//! | [`calls`] | operations |
//! | [`view`] | what is shown at all |
//!
//! A refused operation is not carried out, Python gets `PermissionError`, and one line in the log names the grant.

pub(crate) mod calls;
pub(crate) mod changes;
pub(crate) mod files;
pub(crate) mod names;
pub(crate) mod serve;
pub(crate) mod view;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;

use vivarium_protocol::codes;
use vivarium_protocol::message::TableId;
use vivarium_protocol::policy::{Grants, TenantPolicy};

use self::names::Needs;
use crate::apache::log::{self, Level};
use crate::apache::request::Request;
use crate::conversation::tree::Entry;
use crate::tenants::{self, throttle};

/// How many lines about refusals a tenant may cause in ten seconds.
const LINES: u32 = 50;

/// Why an operation is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What was asked for, as Python calls it.
    what: String,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Grant(Grants),
    Value(&'static str),
    Limit(&'static str),
}

impl Refusal {
    pub(crate) fn grant(what: impl Into<String>, grant: Grants) -> Self {
        Self { what: what.into(), why: Why::Grant(grant) }
    }
    pub(crate) fn limit(what: impl Into<String>, limit: &'static str) -> Self {
        Self { what: what.into(), why: Why::Limit(limit) }
    }

    /// What is needed, if the tenant has not got it.
    fn of(
        policy: &TenantPolicy,
        what: impl FnOnce() -> String,
        needs: Option<Needs>,
    ) -> Result<(), Self> {
        let why = match needs {
            None => return Ok(()),
            Some(Needs::Grant(grant)) if policy.allows(grant) => return Ok(()),
            Some(Needs::Grant(grant)) => Why::Grant(grant),
            Some(Needs::Better(why)) => Why::Value(why),
        };
        Err(Self { what: what(), why })
    }

    /// What Python and the log are told.
    pub(crate) fn text(&self) -> String {
        let what = &self.what;
        match self.why {
            Why::Grant(grant) => format!("{what} needs the grant {grant}"),
            Why::Value(why) => format!("{what}: {why}"),
            Why::Limit(limit) => format!("{what}: the tenant's {limit} is reached"),
        }
    }

    /// The bit under which a request remembers that this was logged.
    fn bit(&self) -> u64 {
        match self.why {
            Why::Grant(grant) => {
                let at = Grants::NAMES.iter().position(|(g, _)| *g == grant);
                1 << at.unwrap_or(0).min(61)
            }
            Why::Value(_) => 1 << 62,
            Why::Limit(_) => 1 << 63,
        }
    }
}

/// What is kept of a request for its tenant's sake.
#[derive(Default)]
pub(crate) struct Record {
    /// Bytes that Python has had httpd keep for the request.
    held: Cell<u64>,
    filters: Cell<u32>,
    log_lines: Cell<u32>,
    /// What was refused and Python has not been told of.
    untold: RefCell<Option<Refusal>>,
    /// What was logged already, a bit each.
    logged: Cell<u64>,
    /// Entries of tables, and the tenant that has set them.
    owners: RefCell<Vec<Owned>>,
}

/// Table, name, tenant.
type Owned = (TableId, Box<[u8]>, Box<str>);

impl Record {
    /// What was refused since Python was last told.
    pub(crate) fn take_untold(&self) -> Option<Refusal> {
        self.untold.borrow_mut().take()
    }

    /// Remembers what Python is to be told.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.untold.borrow_mut().get_or_insert(refusal);
    }

    /// Counts bytes that httpd keeps until the request ends.
    fn hold(&self, policy: &TenantPolicy, bytes: usize, what: &str) -> Result<(), Refusal> {
        let held = self.held.get().saturating_add(bytes as u64);
        if policy.max_held_bytes > 0 && held > policy.max_held_bytes {
            return Err(Refusal::limit(what, "max_held"));
        }
        self.held.set(held);
        Ok(())
    }

    fn own(&self, table: TableId, name: &[u8], tenant: &str) {
        let mut owners = self.owners.borrow_mut();
        let same = |t: TableId, n: &[u8]| t == table && n.eq_ignore_ascii_case(name);
        match owners.iter_mut().find(|(t, n, _)| same(*t, n)) {
            Some((_, _, owner)) if **owner == *tenant => {}
            Some((_, _, owner)) => *owner = tenant.into(),
            None => owners.push((table, name.into(), tenant.into())),
        }
    }

    /// Whether another confined tenant has set this.
    fn is_of_other(&self, table: TableId, name: &[u8], tenant: &str) -> bool {
        let owners = self.owners.borrow();
        owners
            .iter()
            .any(|(t, n, owner)| *t == table && n.eq_ignore_ascii_case(name) && **owner != *tenant)
    }
}

/// Logs a refusal: once for each request and grant.
pub(crate) fn complain(entry: &Entry, tenant: &str, refusal: &Refusal) {
    let logged = entry.guard.logged.get();
    if logged & refusal.bit() != 0 {
        return;
    }
    entry.guard.logged.set(logged | refusal.bit());
    if let Some(r) = entry.request() {
        complain_of(r, tenant, refusal);
    }
}

fn line(tenant: &str, refusal: &Refusal) -> Option<String> {
    let left_out = throttle::allow(tenant, "grants", LINES)?;
    let code = match refusal.why {
        Why::Grant(_) => codes::GRANT,
        Why::Value(_) => codes::BAD_HEADER,
        Why::Limit(_) => codes::TENANT_LIMIT,
    };
    Some(format!("{code}: tenant {tenant}: {}{}", refusal.text(), throttle::more(left_out)))
}

/// The same where there is a request that Python has not met.
pub(crate) fn complain_of(r: Request<'_>, tenant: &str, refusal: &Refusal) {
    if let Some(text) = line(tenant, refusal) {
        log::request(r, Level::Err as i32, text.as_bytes());
    }
}

/// The same without a request.
pub(crate) fn complain_outside(tenant: &str, refusal: &Refusal) {
    if let Some(text) = line(tenant, refusal) {
        log::server(None, Level::Err, &text);
    }
}

/// The directories whose files a tenant may have served for a request.
pub(crate) fn roots(policy: &TenantPolicy, r: Request<'_>) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    if !policy.document_roots.is_empty() {
        return policy.document_roots.iter().map(PathBuf::from).collect();
    }
    let own = tenants::directory(r);
    let root = own.as_deref().or_else(|| r.document_root());
    root.map(|p| PathBuf::from(std::ffi::OsStr::from_bytes(p))).into_iter().collect()
}
