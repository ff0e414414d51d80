//! A client that must not miss anything, whatever becomes of its connection.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use testkit::{Client, ClientError, PATIENCE};

/// It follows one recoverable channel on which the numbers 1, 2, 3 … are published.
pub struct Follower {
    client: Client,
    token: String,
    channel: String,
    epoch: String,
    offset: u64,
    /// The last number heard.
    pub heard: u64,
    /// How often it lost its connection.
    pub moves: usize,
    /// How often it was told that its subscription has ended, on a connection that lasted.
    pub ends: usize,
    /// Close codes seen; nothing stands for a connection that was cut.
    pub closes: Vec<Option<u16>>,
}

impl Follower {
    /// Connects and subscribes.
    pub fn start(address: SocketAddr, token: &str, channel: &str) -> anyhow::Result<Self> {
        let mut client = Client::connect(address, token)?;
        let subscribed = client.subscribe(channel)?;
        let epoch = subscribed["epoch"].as_str().context("no epoch")?;
        Ok(Self {
            token: token.to_owned(),
            channel: channel.to_owned(),
            epoch: epoch.to_owned(),
            offset: subscribed["offset"].as_u64().unwrap_or_default(),
            client,
            heard: 0,
            moves: 0,
            ends: 0,
            closes: Vec::new(),
        })
    }

    /// Follows until it has heard `last`. If its connection ends it goes to `elsewhere`.
    ///
    /// # Errors
    /// If a number is missing or comes twice, if offsets do not rise by one, or if a
    /// recovery is not complete.
    pub fn follow(&mut self, last: u64, elsewhere: SocketAddr) -> anyhow::Result<()> {
        while self.heard < last {
            match self.client.next_push(PATIENCE) {
                Ok(push) if push["channel"] != *self.channel => {}
                Ok(push) => {
                    if let Some(publication) = push.get("pub") {
                        self.take(publication)?;
                    } else if push.get("unsubscribe").is_some() {
                        self.ends += 1;
                        self.resume()?;
                    }
                }
                Err(ClientError::Closed(close)) => {
                    self.closes.push(close.code);
                    self.moves += 1;
                    self.client = Client::connect(elsewhere, &self.token)?;
                    self.resume()?;
                }
                Err(error) => bail!("after {}: {error}", self.heard),
            }
        }
        ensure!(self.heard == last, "{} was heard after {last}", self.heard);
        Ok(())
    }

    fn resume(&mut self) -> anyhow::Result<()> {
        let answer = loop {
            let answer = self.client.recover(&self.channel, &self.epoch, self.offset);
            match answer {
                Ok(answer) => break answer,
                // Whoever is told to try again later does.
                Err(ClientError::Reply { code: 100, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        };
        ensure!(
            answer["recovered"] == true && answer["epoch"] == *self.epoch,
            "recovery from {} in {} was answered by {answer}",
            self.offset,
            self.epoch
        );
        for publication in answer["publications"].as_array().into_iter().flatten() {
            self.take(publication)?;
        }
        Ok(())
    }

    fn take(&mut self, publication: &Value) -> anyhow::Result<()> {
        let follows =
            publication["offset"] == self.offset + 1 && publication["data"] == self.heard + 1;
        ensure!(
            follows,
            "after {} at {} came {publication}",
            self.heard,
            self.offset
        );
        self.offset += 1;
        self.heard += 1;
        Ok(())
    }
}
