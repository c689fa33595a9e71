//! Log lines of tenants that may not come too often: a tenant that fails must not fill the log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long lines are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// How many tenants and kinds are kept in mind.
const KEPT: usize = 4096;

struct Count {
    began: Instant,
    written: u32,
    left_out: u64,
}

type Counts = HashMap<(Box<str>, &'static str), Count>;

static COUNTS: Mutex<Option<Counts>> = Mutex::new(None);

/// Whether a line of this kind about this tenant may be written now, `burst` of them in ten seconds; then, how many
/// were left out since the last one.
pub(crate) fn allow(tenant: &str, kind: &'static str, burst: u32) -> Option<u64> {
    let mut guard = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    decide(guard.get_or_insert_default(), tenant, kind, burst, Instant::now())
}

fn decide(
    counts: &mut Counts,
    tenant: &str,
    kind: &'static str,
    burst: u32,
    now: Instant,
) -> Option<u64> {
    if counts.len() >= KEPT {
        counts.retain(|_, c| now.saturating_duration_since(c.began) < WINDOW);
        if counts.len() >= KEPT {
            counts.clear();
        }
    }
    let new = Count { began: now, written: 0, left_out: 0 };
    let count = counts.entry((tenant.into(), kind)).or_insert(new);
    if now.saturating_duration_since(count.began) >= WINDOW {
        (count.began, count.written) = (now, 0);
    }
    if count.written >= burst {
        count.left_out += 1;
        return None;
    }
    count.written += 1;
    Some(std::mem::take(&mut count.left_out))
}

/// The end of a line about lines that were left out.
pub(crate) fn more(left_out: u64) -> String {
    if left_out == 0 { String::new() } else { format!(" ({left_out} more such lines left out)") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_left_out_and_counted() {
        let mut counts = Counts::new();
        let now = Instant::now();
        assert_eq!(decide(&mut counts, "a", "x", 2, now), Some(0));
        assert_eq!(decide(&mut counts, "a", "x", 2, now), Some(0));
        assert_eq!(decide(&mut counts, "a", "x", 2, now), None);
        assert_eq!(decide(&mut counts, "a", "x", 2, now), None);
        assert_eq!(decide(&mut counts, "b", "x", 2, now), Some(0), "another tenant");
        assert_eq!(decide(&mut counts, "a", "y", 2, now), Some(0), "another kind");
        assert_eq!(decide(&mut counts, "a", "x", 2, now + WINDOW), Some(2));
        assert_eq!(more(2), " (2 more such lines left out)");
    }

    #[test]
    fn invented_names_take_no_memory() {
        let mut counts = Counts::new();
        let now = Instant::now();
        for n in 0..3 * KEPT {
            decide(&mut counts, &n.to_string(), "x", 1, now);
        }
        assert!(counts.len() <= KEPT);
    }
}
