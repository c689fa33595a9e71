//! How many of httpd's threads a tenant may hold.
//!
//! A thread *runs* while it is in the tenant's Python or waits for one of its workers; it *waits* while it has no place to
//! run; both *hold* it. One tenant never holds more than half of a child's threads, or of all children's: what it has
//! beyond that gets 503 at once, so that the other half answers everybody else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use vivarium_protocol::codes;
use vivarium_protocol::control::PoolKey;
use vivarium_protocol::policy::TenantPolicy;

use super::places::{Full, Limits, Places};
use super::{Tenant, shared};
use crate::conversation::{Fault, run};

/// A tenant's places, in this child and in all.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    tenant: Box<str>,
    /// There are no limits.
    open: AtomicBool,
    places: Places,
    shared: OnceLock<Option<shared::Counter>>,
}

/// A thread's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// None if nothing is counted.
    of: Option<(Arc<Tenant>, Option<shared::Counter>)>,
    /// When the request began to wait for it.
    pub(crate) since: Instant,
}

impl Bulkhead {
    pub(super) fn new(tenant: &str, policy: &TenantPolicy) -> Self {
        let limits = limits(policy);
        let open = AtomicBool::new(limits.is_open());
        Self { tenant: tenant.into(), open, places: Places::new(limits), shared: OnceLock::new() }
    }

    pub(super) fn set(&self, policy: &TenantPolicy) {
        let limits = limits(policy);
        self.open.store(limits.is_open(), Ordering::Relaxed);
        self.places.set(limits);
    }

    fn counter(&self) -> Option<shared::Counter> {
        *self.shared.get_or_init(|| shared::counter(&self.tenant))
    }
}

fn limits(policy: &TenantPolicy) -> Limits {
    let threads = crate::hooks::max_threads();
    Limits::of(policy, threads, threads.saturating_mul(crate::hooks::max_children()))
}

/// Waits for a place of a tenant for this thread.
///
/// # Errors
/// [`Fault::Unavailable`]: the tenant has no place to give.
pub(crate) fn enter(tenant: &Arc<Tenant>) -> Result<Place, Fault> {
    let since = Instant::now();
    let refused = |(full, limits): (Full, Limits)| Fault::Unavailable {
        reason: format!("{}: the tenant {} {}", codes::BULKHEAD, tenant.name(), full.text()),
        retry_after: limits.retry_after,
    };
    if tenant.bulkhead.open.load(Ordering::Relaxed) {
        return Ok(Place { of: None, since });
    }
    // Held by all children together first: a thread that waits is held, too.
    let counter = tenant.bulkhead.counter();
    let now = tenant.bulkhead.places.limits();
    if counter.is_some_and(|c| !c.hold(now.hold_all)) {
        return Err(refused((Full::Held, now)));
    }
    let entered = tenant.bulkhead.places.enter(since).and_then(|limits| match &counter {
        Some(c) if !c.run(limits.run_all, since + limits.wait) => {
            tenant.bulkhead.places.leave();
            Err((Full::Expired, limits))
        }
        _ => Ok(()),
    });
    if let Err(full) = entered {
        if let Some(counter) = counter {
            counter.release();
        }
        return Err(refused(full));
    }
    Ok(Place { of: Some((Arc::clone(tenant), counter)), since })
}

/// The same for a request of a pool. A child's first request of a tenant learns from the pool what the tenant may hold.
///
/// # Errors
/// As [`enter`], and what keeps the pool from being used.
pub(crate) fn enter_for(key: &PoolKey) -> Result<Place, Fault> {
    let tenant = super::get(&key.tenant);
    let place = enter(&tenant)?;
    if tenant.is_told() {
        return Ok(place);
    }
    run::find_pool(key)?;
    drop(place);
    enter(&tenant)
}

impl Place {
    /// A place that nothing is counted for: the thread has one of the same tenant already.
    pub(crate) fn within() -> Self {
        Self { of: None, since: Instant::now() }
    }

    /// The same for one that has just come.
    pub(crate) fn within_since(since: Instant) -> Self {
        Self { of: None, since }
    }

    /// Whose it is, if it is counted.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.of.as_ref().map(|(tenant, _)| tenant.name())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((tenant, counter)) = self.of.take() {
            tenant.bulkhead.places.leave();
            if let Some(counter) = counter {
                counter.stop();
                counter.release();
            }
        }
    }
}
