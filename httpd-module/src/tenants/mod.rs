//! Tenants as a child knows them: whose Python a request is, what that tenant may do, how much of httpd it holds.
//!
//! | module | idea |
//! |---|---|
//! | [`bulkhead`] | how many of httpd's threads a tenant may hold |
//! | [`places`] | its places in one child |
//! | [`shared`] | the same over all children of one httpd |
//! | [`throttle`] | log lines that may not come too often |
//!
//! A tenant's policy comes from the supervisor with the first pool of it that a child attaches, and again when it
//! changes. Until then a declared tenant has no grants and small places.

pub(crate) mod bulkhead;
mod places;
pub(crate) mod shared;
pub(crate) mod throttle;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use vivarium_protocol::policy::{DEFAULT_TENANT, Grants, TenantPolicy, is_default, is_valid_name};

use self::bulkhead::Bulkhead;
use crate::apache::request::Request;
use crate::config::dir::{DirConf, TenantOf};
use crate::conversation::queues::Queue;

/// The tenant of a place whose user cannot be told: nobody's, so that nobody serves it.
pub(crate) const NOBODY: &str = "~";
/// How many tenants a child keeps in mind beyond those that it uses.
const KEPT: usize = 8192;

/// A tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    name: Box<str>,
    /// Whether operations need grants; the one word that the default tenant's requests look at.
    confined: AtomicBool,
    policy: RwLock<Arc<TenantPolicy>>,
    /// The supervisor has said what it is.
    told: AtomicBool,
    pub(crate) bulkhead: Bulkhead,
    /// The way to the thread that runs its log handlers and clean-ups, while there is one.
    after: Mutex<Option<Queue>>,
}

impl Tenant {
    fn new(name: &str) -> Self {
        let policy = if is_default(name) { TenantPolicy::unconfined(name) } else { closed(name) };
        Self {
            name: name.into(),
            confined: AtomicBool::new(policy.confined),
            bulkhead: Bulkhead::new(name, &policy),
            policy: RwLock::new(Arc::new(policy)),
            after: Mutex::default(),
            told: AtomicBool::new(is_default(name)),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its policy is the supervisor's word.
    pub(crate) fn is_told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    /// The way to its thread for what is left after requests.
    pub(crate) fn after(&self) -> MutexGuard<'_, Option<Queue>> {
        self.after.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a policy from the supervisor. A declared tenant is confined, whatever it says.
    pub(crate) fn set_policy(&self, mut policy: TenantPolicy) {
        policy.confined = !is_default(&self.name);
        self.bulkhead.set(&policy);
        self.told.store(true, Ordering::Release);
        self.confined.store(policy.confined, Ordering::Release);
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// What it may do, if it is confined.
    pub(crate) fn confined(&self) -> Option<Arc<TenantPolicy>> {
        self.confined.load(Ordering::Acquire).then(|| self.policy())
    }

    /// Its policy.
    pub(crate) fn policy(&self) -> Arc<TenantPolicy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What holds for a declared tenant of which nothing is known yet. The numbers are those of a tenant's file that says
/// nothing of them.
fn closed(name: &str) -> TenantPolicy {
    TenantPolicy {
        confined: true,
        grants: Grants::NONE,
        max_threads_per_child: 8,
        max_threads: 64,
        queue: 32,
        queue_deadline_ms: 5000,
        retry_after_s: 2,
        max_held_bytes: 8 << 20,
        max_table_entries: 1000,
        max_log_lines: 200,
        ..TenantPolicy::unconfined(name)
    }
}

type Known = RwLock<HashMap<Box<str>, Arc<Tenant>>>;

static KNOWN: OnceLock<Known> = OnceLock::new();
static DEFAULT: OnceLock<Arc<Tenant>> = OnceLock::new();

/// The tenant of a name. Names can come from clients (`VivariumTenant ~*`): who is not in use is forgotten at some time.
pub(crate) fn get(name: &str) -> Arc<Tenant> {
    if is_default(name) {
        return Arc::clone(DEFAULT.get_or_init(|| Arc::new(Tenant::new(DEFAULT_TENANT))));
    }
    let known = KNOWN.get_or_init(Known::default);
    if let Some(found) = known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
        return Arc::clone(found);
    }
    let mut all = known.write().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= KEPT {
        all.retain(|_, tenant| Arc::strong_count(tenant) > 1);
    }
    Arc::clone(all.entry(name.into()).or_insert_with(|| Arc::new(Tenant::new(name))))
}

/// Whose Python runs at a place; `file` is the request's, as far as it is known.
fn at<'c>(conf: Option<&'c DirConf>, file: Option<&[u8]>) -> Cow<'c, str> {
    match conf.and_then(|c| c.tenant.as_ref()) {
        None => DEFAULT_TENANT.into(),
        Some(TenantOf::Name(name, _)) => Cow::Borrowed(name),
        Some(TenantOf::User { template, pattern }) => file
            .and_then(|f| pattern.user(f))
            .and_then(|user| String::from_utf8(user).ok())
            .map(|user| format!("{template}~{user}"))
            .filter(|name| is_valid_name(name))
            .map_or(NOBODY.into(), Cow::Owned),
    }
}

/// Whose Python runs for a request now.
pub(crate) fn of(r: Request<'_>) -> Cow<'_, str> {
    at(r.dir_conf(), r.filename())
}

/// The directory that makes a request's file its tenant's, if a `<Directory>` does.
pub(crate) fn directory(r: Request<'_>) -> Option<Vec<u8>> {
    match r.dir_conf()?.tenant.as_ref()? {
        TenantOf::Name(_, directory) => directory.as_deref().map(<[u8]>::to_vec),
        TenantOf::User { pattern, .. } => pattern.shortest(r.filename()?),
    }
}

/// Whose Python runs for a connection, or at server level.
pub(crate) fn of_server(conf: Option<&DirConf>) -> Cow<'_, str> {
    at(conf, None)
}
