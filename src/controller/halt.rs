//! Once the station's disk has refused something, no further command that changes a module is sent.
//!
//! A module that is written while nothing can be recorded is a module that nobody knows of. Asked before each single
//! command, so that what a module may still get is the one command that was on its way to it when the disk failed.

use tokio::sync::watch;

use super::failure::Failure;
use crate::domain::FailureCode;
use crate::ledger::Health;

/// Whether the station's disk has failed, and how.
#[derive(Debug)]
pub(crate) struct Halt {
    /// What a slot found out.
    own: watch::Sender<Option<String>>,
    ledger: watch::Receiver<Health>,
}

impl Halt {
    pub(crate) fn new(ledger: watch::Receiver<Health>) -> Self {
        Self { own: watch::Sender::new(None), ledger }
    }

    /// The vault, or the package's disk, has failed. The first reason stays, also that of the ledger.
    pub(crate) fn because(&self, reason: &str) {
        let is_known = *self.ledger.borrow() != Health::Well;
        self.own.send_if_modified(|own| {
            let is_first = own.is_none() && !is_known;
            if is_first {
                *own = Some(reason.to_owned());
            }
            is_first
        });
    }

    /// Why nothing may be begun any more.
    pub(crate) fn reason(&self) -> Option<String> {
        if let Some(reason) = &*self.own.borrow() {
            return Some(reason.clone());
        }
        match &*self.ledger.borrow() {
            Health::Well => None,
            Health::Failing { reason } | Health::Failed { reason } => Some(format!("the ledger: {reason}")),
        }
    }

    /// Refuses what changes a module once the disk has failed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.reason() {
            None => Ok(()),
            Some(reason) => {
                let detail = format!("no further command that changes the module was sent: {reason}");
                Err(Failure::new(FailureCode::DiskFailed, detail))
            }
        }
    }

    /// Waits until the disk fails.
    pub(crate) async fn until(&self) {
        let (mut own, mut ledger) = (self.own.subscribe(), self.ledger.clone());
        let found = async { own.wait_for(Option::is_some).await.is_ok() };
        let told = async { ledger.wait_for(|health| *health != Health::Well).await.is_ok() };
        let has_failed = tokio::select! {
            biased;
            found = found => found,
            told = told => told,
        };
        if !has_failed {
            // The ledger's writer has ended, and nothing more is heard of it.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn either_reason_stops_what_changes_a_module() {
        let (ledger, health) = watch::channel(Health::Well);
        let halt = Halt::new(health.clone());
        assert_eq!(halt.check(), Ok(()));
        ledger.send_replace(Health::Failing { reason: "no space".to_owned() });
        assert_eq!(halt.check().expect_err("full").code, FailureCode::DiskFailed);
        halt.until().await;
        let halt = Halt::new(watch::channel(Health::Well).1);
        halt.because("the vault");
        halt.because("later");
        halt.until().await;
        assert_eq!(halt.reason().as_deref(), Some("the vault"));
    }
}
