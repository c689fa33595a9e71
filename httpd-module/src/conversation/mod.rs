//! The httpd side of conversations.
//!
//! | module | idea |
//! |---|---|
//! | [`tree`] | one request tree: its numbered requests, its running conversations, the workers that hold its objects |
//! | [`exchange`] | one lane during one conversation: enter, serve until `Leave` |
//! | [`level`] | what one `Enter` is about |
//! | [`calls`] | what a worker may ask while it is served |
//! | [`body`] | bodies: output that the worker writes, input that it reads, files |
//! | [`connections`] | connection handlers |
//! | [`filters`] | Python output filters |
//! | [`promise`] | lengths that answers promise |
//! | [`length`] | the lengths of answers, counted where they go out |
//! | [`queues`] | which thread does it |
//! | [`providers`] | authentication and authorisation providers |
//! | [`ssi`] | elements of mod_include |
//! | [`snapshot`] | what an `Enter` tells of a request |
//! | [`phases`] | the phases of a request, and what a result or a failure becomes |
//! | [`run`] | running one phase: which pool, which conversation |
//! | [`after`] | what is left to do when a tree is over |

pub(crate) mod after;
pub(crate) mod body;
pub(crate) mod calls;
pub(crate) mod connections;
pub(crate) mod exchange;
pub(crate) mod filters;
pub(crate) mod length;
pub(crate) mod level;
pub(crate) mod phases;
pub(crate) mod promise;
pub(crate) mod providers;
pub(crate) mod queues;
pub(crate) mod run;
pub(crate) mod snapshot;
pub(crate) mod ssi;
pub(crate) mod tree;

/// How a phase that could not be run to its end failed.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Python could not be reached: nothing has been run.
    Unavailable { reason: String, retry_after: u32 },
    /// The worker died with the request.
    Died(String),
    /// The worker broke the protocol.
    Broken(String),
    /// The phase ran longer than the tenant's may; its worker is ended.
    TooLong(String),
}

impl Fault {
    /// How it is logged.
    pub(crate) fn code_and_reason(&self) -> (vivarium_protocol::codes::Code, &str) {
        use vivarium_protocol::codes;
        match self {
            Self::Unavailable { reason, .. } => (codes::NO_WORKER, reason),
            Self::Died(reason) => (codes::LOST_REQUEST, reason),
            Self::Broken(reason) => (codes::BAD_FRAME, reason),
            Self::TooLong(reason) => (codes::TOO_LONG, reason),
        }
    }

    /// What the client gets if nothing has been sent yet.
    pub(crate) fn status(&self) -> i32 {
        match self {
            Self::Unavailable { .. } => crate::sys::HTTP_SERVICE_UNAVAILABLE,
            Self::Died(_) | Self::Broken(_) => crate::sys::HTTP_BAD_GATEWAY,
            Self::TooLong(_) => crate::sys::HTTP_GATEWAY_TIME_OUT,
        }
    }
}
