//! Hot-plug events, as hints to look at once.
//!
//! They come from udev. Where it does not run nothing comes, and the listing every second does all the work; that is
//! no error.

use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Counts events until it is dropped.
#[derive(Debug)]
pub(super) struct Hints {
    receiver: watch::Receiver<u64>,
    /// Kept, so that a receiver never sees its sender gone.
    _sender: watch::Sender<u64>,
    task: Option<JoinHandle<()>>,
}

impl Hints {
    pub(super) fn start() -> Self {
        let (sender, receiver) = watch::channel(0_u64);
        let task = match nusb::watch_devices() {
            Ok(mut events) => {
                let counter = sender.clone();
                Some(tokio::spawn(async move {
                    while poll_fn(|context| Pin::new(&mut events).poll_next(context)).await.is_some() {
                        counter.send_modify(|count| *count = count.wrapping_add(1));
                    }
                }))
            }
            Err(error) => {
                tracing::info!(%error, "no hot-plug events; the bus is listed every second anyway");
                None
            }
        };
        Self { receiver, _sender: sender, task }
    }

    pub(super) fn receiver(&self) -> watch::Receiver<u64> {
        self.receiver.clone()
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
