//! What goes back to the client.

use bytes::Bytes;
use http1::{Fields, Framing};

use super::refusal::Said;
use super::streaming::Streaming;
use super::tunnel::Tunnel;

/// An answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// 101, or 200 to 599.
    pub status: u16,
    /// Without any that speak of a connection. `content-length` may be among them: of an
    /// answer without a body it says what there would have been.
    pub fields: Fields,
    /// How the upstream framed the body; the edge frames it as the client's version of
    /// HTTP wants it.
    pub framing: Framing,
    /// The protocol that is switched to, with 101.
    pub upgrade: Option<&'static str>,
    /// What follows.
    pub body: Body,
}

/// What follows an answer's head.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// Our own words.
    Full(Bytes),
    /// The upstream's.
    Stream(Box<Streaming>),
    /// Bytes of another protocol, both ways.
    Tunnel(Box<Tunnel>),
}

impl Answer {
    pub(super) fn said(said: Said) -> Self {
        Self {
            status: said.status,
            fields: said.fields,
            framing: match said.body.len() {
                0 => Framing::Empty,
                length => Framing::Length(length as u64),
            },
            upgrade: None,
            body: Body::Full(said.body),
        }
    }
}
