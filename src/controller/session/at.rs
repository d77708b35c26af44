//! The AT port: one command at a time, each with its own deadline.

use std::time::Duration;

use crate::controller::failure::{Failure, SessionError};
use crate::controller::waits::Waits;
use crate::domain::{FailureCode, Wait};
use crate::hardware::AtPort;
use crate::host::Clock;
use crate::protocol::at::{Exchange, Final, Reply};

/// How long to wait, and listen, before a command is repeated, in station time.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// An open AT port.
#[derive(Debug)]
pub(crate) struct AtSession {
    port: Box<dyn AtPort>,
    clock: Clock,
    /// How long one command may take.
    limit: Duration,
    waits: Waits,
}

impl AtSession {
    pub(crate) fn new(port: Box<dyn AtPort>, clock: Clock, limit: Duration) -> Self {
        Self { port, clock, limit, waits: Waits::default() }
    }

    /// Notes how long answers took.
    pub(crate) fn timed(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    /// Station time.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Sends one command and waits for its final result. After a timeout the port is synchronised again, so that a
    /// late reply can never be taken for the answer to the next command.
    pub(crate) async fn command(&mut self, command: &str) -> Result<Reply, SessionError> {
        match self.exchange(command).await {
            Err(SessionError::Silent(silence)) => {
                self.pause(RETRY_PAUSE).await?;
                let deadline = self.clock.deadline(self.limit);
                self.synchronise(deadline).await.map_err(|error| match error {
                    SessionError::Silent(_) => SessionError::Silent(silence),
                    other => other,
                })?;
                Err(SessionError::Silent(silence))
            }
            other => other,
        }
    }

    async fn exchange(&mut self, command: &str) -> Result<Reply, SessionError> {
        let clock = self.clock.clone();
        let waiting = self.waits.begin(Wait::At, &clock);
        let reply = clock
            .timeout_at(clock.deadline(self.limit), self.converse(command))
            .await
            .unwrap_or(Err(SessionError::Silent("no reply to an AT command")))?;
        waiting.over();
        Ok(reply)
    }

    async fn converse(&mut self, command: &str) -> Result<Reply, SessionError> {
        let mut exchange = Exchange::new(command);
        self.port.write(&exchange.request()).await?;
        let mut buffer = [0; 1024];
        loop {
            let length = self.port.read(&mut buffer).await?;
            match exchange.feed(&buffer[..length]) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(error) => return Err(Failure::new(FailureCode::AtSilent, error.to_string()).into()),
            }
        }
    }

    /// Repeats `AT` until it is answered with OK.
    pub(crate) async fn synchronise(&mut self, deadline: Duration) -> Result<(), SessionError> {
        loop {
            let left = deadline.saturating_sub(self.clock.now());
            if left.is_zero() {
                return Err(SessionError::Silent("no answer to AT"));
            }
            let clock = self.clock.clone();
            let attempt = left.min(Duration::from_secs(1));
            match clock.timeout(attempt, self.converse("AT")).await {
                Ok(Ok(reply)) if reply.result == Final::Ok => return Ok(()),
                Ok(Ok(_)) | Err(_) => {}
                // Noise: the next probe decides.
                Ok(Err(SessionError::Failed(_))) => {}
                Ok(Err(error)) => return Err(error),
            }
            self.pause(RETRY_PAUSE.min(left)).await?;
        }
    }

    /// Repeats a query until it is answered with OK and `understand` makes sense of the answer. An error reply means
    /// "not ready", never "absent", until the deadline has passed; `None` then, with the last answer as text.
    pub(crate) async fn query<T>(
        &mut self,
        command: &str,
        deadline: Duration,
        understand: impl Fn(&Reply) -> Option<T>,
    ) -> Result<Result<T, String>, SessionError> {
        self.query_often(command, deadline, 1, understand).await
    }

    /// The same for a query on whose failure much depends: it is asked so many times in any case, however late the
    /// answers are, so that one that was lost is not taken for one that there is not.
    pub(crate) async fn query_often<T>(
        &mut self,
        command: &str,
        deadline: Duration,
        asks_min: u32,
        mut understand: impl FnMut(&Reply) -> Option<T>,
    ) -> Result<Result<T, String>, SessionError> {
        let mut asks = 0_u32;
        loop {
            asks = asks.saturating_add(1);
            let last = match self.command(command).await {
                Ok(reply) if reply.result == Final::Ok => match understand(&reply) {
                    Some(value) => return Ok(Ok(value)),
                    None => reply.lines.join(" | "),
                },
                Ok(reply) => format!("{:?}", reply.result),
                Err(SessionError::Silent(_)) => "no answer".to_owned(),
                Err(SessionError::Failed(failure)) => failure.detail,
                Err(error) => return Err(error),
            };
            if asks >= asks_min && self.clock.now() + RETRY_PAUSE >= deadline {
                return Ok(Err(last));
            }
            self.pause(RETRY_PAUSE).await?;
        }
    }

    /// Waits before a repetition, and passes over whatever arrives: the answer to a command that somebody asked before,
    /// in an earlier session perhaps, must not be taken for the answer to the next one.
    pub(crate) async fn pause(&mut self, pause: Duration) -> Result<(), SessionError> {
        let clock = self.clock.clone();
        let mut buffer = [0; 1024];
        let listen = async {
            loop {
                if let Err(error) = self.port.read(&mut buffer).await {
                    return error;
                }
            }
        };
        clock.timeout(pause, listen).await.map_or(Ok(()), |error| Err(error.into()))
    }
}
