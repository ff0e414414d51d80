//! The reference page of the codes.

use std::fmt::Write as _;

use super::{
    DISCONNECT_MEANINGS, Disconnect, ErrorCode, UNSUBSCRIBE_MEANINGS, UnsubscribeCode,
    WEBSOCKET_CLOSES,
};

/// The codes as a page in Markdown: `docs/reference/codes.md`.
pub fn reference_markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    errors(&mut page);
    disconnects(&mut page);
    unsubscribes(&mut page);
    websocket_closes(&mut page);
    page
}

fn errors(page: &mut String) {
    page.push_str(ERRORS);
    for error in ErrorCode::ALL {
        let temporary = if error.temporary() { "yes" } else { "no" };
        row(
            page,
            &[
                &error.code(),
                &error.message(),
                &temporary,
                &error.meaning(),
            ],
        );
    }
    page.push_str(REACTIONS);
}

fn disconnects(page: &mut String) {
    page.push_str(DISCONNECTS);
    for (disconnect, meaning) in Disconnect::ALL.iter().zip(DISCONNECT_MEANINGS) {
        let reaction = if disconnect.may_reconnect() {
            "reconnects"
        } else {
            "stays away"
        };
        row(
            page,
            &[&disconnect.code, &disconnect.reason, &meaning, &reaction],
        );
    }
}

fn unsubscribes(page: &mut String) {
    page.push_str(UNSUBSCRIBES);
    for (unsubscribe, meaning) in UnsubscribeCode::ALL.iter().zip(UNSUBSCRIBE_MEANINGS) {
        let reaction = match *unsubscribe {
            UnsubscribeCode::STATE_INVALIDATED => "drops token and position, then resubscribes",
            code if code.may_resubscribe() => "resubscribes",
            _ => "stays unsubscribed",
        };
        row(
            page,
            &[&unsubscribe.code, &unsubscribe.reason, &meaning, &reaction],
        );
    }
}

fn websocket_closes(page: &mut String) {
    page.push_str(WEBSOCKET);
    for (code, meaning, reaction) in WEBSOCKET_CLOSES {
        row(page, &[code, meaning, reaction]);
    }
}

fn row(page: &mut String, cells: &[&dyn std::fmt::Display]) {
    page.push('|');
    for cell in cells {
        // Writing to a string does not fail.
        let _ = write!(page, " {cell} |");
    }
    page.push('\n');
}

const INTRODUCTION: &str = "\
# Codes

Every number a client can get from the gateway, what it means, and what the Centrifuge SDKs do about it.
This page is generated from the tables in `crates/protocol/src/code.rs`.
";

const ERRORS: &str = "
## Errors

An error answers one command; the connection goes on.
After an error to `connect` it is of no more use: the client opens another.
Codes 100 to 399 belong to the protocol, 400 to 1999 to applications.
Those from 1001 to 1016 answer rpc methods that are bound to a gRPC service (`rpc.grpc`): 1000 and the number of its status.
Behind the message stand words of the gateway's or, where `pass_messages` says so, of the service's own.

| Code | Message | Temporary | Meaning |
|---|---|---|---|
";

const REACTIONS: &str = "
What an SDK does depends on the command:

| Command | Temporary error | 109 | Other errors |
|---|---|---|---|
| connect | reconnects | reconnects with a new token | stays away |
| subscribe | resubscribes | resubscribes with a new token | stays unsubscribed |
| refresh | tries again after 5 to 10 s | stays away | stays away |
| sub_refresh | tries again after 10 to 20 s | stays unsubscribed | stays unsubscribed |
| others | tells the caller | tells the caller | tells the caller |
";

const DISCONNECTS: &str = "
## Disconnects

A disconnect closes the connection: as close code and reason over WebSocket, as a last push over HTTP-streaming and SSE.
SDKs reconnect, with backoff, after codes 3000 to 3499 and 4000 to 4499, and stay away after 3500 to 3999 and 4500 to 4999.
Codes from 4000 on are the gateway's and applications' own; the server API may send others than those listed.

| Code | Reason | Meaning | SDK |
|---|---|---|---|
";

const UNSUBSCRIBES: &str = "
## Unsubscribes

The server ended one subscription; the connection goes on.
SDKs resubscribe after codes 2500 to 2999, and not after 2000 to 2499.
A server-side subscription is dropped whatever the code.

| Code | Reason | Meaning | SDK |
|---|---|---|---|
";

const WEBSOCKET: &str = "
## WebSocket close codes

Sent when a connection fails below the Centrifuge protocol.

| Code | Meaning | SDK |
|---|---|---|
";
