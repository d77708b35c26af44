//! HTTP: `/metrics` for Prometheus and `/healthz` for supervisors.
//!
//! The server hands out what it is given by two functions and knows nothing else: it cannot reach a slot, the ledger
//! or the bus, and a scrape waits for none of them. Neither answer holds an identity, so the listener may be bound to
//! a factory network; [`exposure`] says so in words for the log.
//!
//! Whoever asks is not trusted. The head of a request is bounded in bytes and time, connections in number and life.
//! A browser on the same host could be led here by any web page, so a request must name this server as its host
//! (against DNS rebinding), and nothing but GET is answered.

mod hosts;
mod server;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

pub use hosts::Hosts;
pub use server::serve;

/// Gives the metrics as text; must not block.
pub type MetricsSource = dyn Fn() -> String + Send + Sync;
/// Says whether the station can work, or why not, in words that hold no identity; must not block.
pub type HealthSource = dyn Fn() -> Result<(), String> + Send + Sync;

/// What the server hands out, and to whom.
#[derive(Clone)]
pub struct WebState {
    /// The body of `/metrics`.
    pub metrics: Arc<MetricsSource>,
    /// The body of `/healthz`.
    pub health: Arc<HealthSource>,
    /// The names under which the server may be asked.
    pub hosts: Arc<Hosts>,
}

impl fmt::Debug for WebState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebState").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// What a person should know who makes the server listen at `address`; `None` where only this host reaches it.
#[must_use]
pub fn exposure(address: SocketAddr) -> Option<String> {
    (!address.ip().is_loopback()).then(|| {
        format!(
            "{address} can be reached from other hosts, without encryption or login. /metrics shows counts and states \
             of the station, no identities of units."
        )
    })
}
