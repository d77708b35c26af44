//! Stopping: first no new runs and running ones to a safe point, then at once.

use tokio_util::sync::CancellationToken;

/// The station's two stop signals. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    gently: CancellationToken,
    now: CancellationToken,
}

impl Stop {
    /// Take no further unit; let running ones reach a safe point. A unit that was not changed yet is given back, one
    /// that was is finished.
    pub(crate) fn gently(&self) {
        self.gently.cancel();
    }

    /// Leave everything as it is, to be resumed.
    pub(crate) fn now(&self) {
        self.gently.cancel();
        self.now.cancel();
    }

    pub(crate) fn is_gentle(&self) -> bool {
        self.gently.is_cancelled()
    }

    /// Waits until the first signal.
    pub(crate) async fn until_gentle(&self) {
        self.gently.cancelled().await;
    }

    /// Waits until the second signal.
    pub(crate) async fn until_now(&self) {
        self.now.cancelled().await;
    }
}
