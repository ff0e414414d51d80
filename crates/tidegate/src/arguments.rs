//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::quantum::Quantum;

/// A real-time gateway: holds clients' connections, fans messages out to them and relays
/// theirs to agents.
///
/// Without a command it serves. Without a configuration file it listens on loopback
/// addresses only (127.0.0.1:8000 for clients, 127.0.0.1:8001 for operators) and shows its
/// demo.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// The configuration file (YAML)
    #[arg(short, long, value_name = "FILE", global = true, env = gateway::config::FILE_VARIABLE)]
    config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

impl Arguments {
    /// The configuration file; an empty variable counts as unset.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.config
            .clone()
            .filter(|file| !file.as_os_str().is_empty())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve; what happens without a command
    Serve,
    /// Run the aggregator of market data alone: section `market` of the configuration, over
    /// the bus of section `bus`
    ///
    /// Health and metrics are on `listeners.admin.address`.
    Market,
    /// Check the configuration: print it as it would be used, or what is wrong with it
    Check,
    /// Make a token for a client, for development and tests
    ///
    /// It is signed with `client.token.hmac_secret_key`, or with the demo's secret while the
    /// demo is on, and has the audience and issuer the configuration asks for.
    Token(Token),
    /// Make a token for an administrator; it is printed once and stored as a hash
    AdminToken(AdminToken),
    /// Say which agent of the relay a client belongs to, by which route, and why
    ///
    /// The exit status is 1 if no route matches.
    Route(Route),
    /// See how Quantum fares between two machines: ping, bench, echo, keys
    #[command(subcommand)]
    Quantum(Quantum),
    /// Print the JSON Schema of the configuration file
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The user the token is for; empty for an anonymous one
    #[arg(long)]
    pub(crate) user: String,
    /// How long it is good for, such as 90s, 1h30m or 7d
    #[arg(long, default_value = "1h", value_parser = gateway::tokens::duration)]
    pub(crate) ttl: Duration,
    /// A channel the server subscribes the connection to; may be given several times
    #[arg(long = "channel", value_name = "CHANNEL")]
    pub(crate) channels: Vec<String>,
    /// A pattern (`xy.md.>`) of channels the connection may have; with one or more of them it
    /// may have no others
    #[arg(long = "subject", value_name = "PATTERN", value_parser = gateway::tokens::subject)]
    pub(crate) subjects: Vec<String>,
    /// Make a subscription token for this channel instead of a connection token
    #[arg(long, value_name = "CHANNEL", conflicts_with_all = ["channels", "subjects"])]
    pub(crate) subscribe: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Route {
    /// The client's id
    #[arg(long, value_name = "ID")]
    pub(crate) client: String,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct AdminToken {
    /// Make a token of this name; the name appears in the audit log
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// List the names of the tokens there are
    #[arg(long)]
    pub(crate) list: bool,
    /// Take the token of this name back
    #[arg(long, value_name = "NAME")]
    pub(crate) remove: Option<String>,
}

const AFTER_HELP: &str = "\
Every key of the file can also be set by a variable, such as
TIDEGATE_CLIENT_PING_INTERVAL=20s for client.ping_interval.

Signals: SIGTERM and SIGINT drain and stop, a second one stops at once; SIGHUP reads the
configuration again.

Exit status: 0 all is well; 1 the configuration was refused, serving failed, a client has no
route, or a peer did not answer; 2 the command line was wrong.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
