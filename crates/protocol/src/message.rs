//! The messages of the Centrifuge client protocol v2, in both encodings.
//!
//! Names and field numbers follow `definitions/client.proto` of the protocol
//! (`contracts`: centrifuge 11.3), written out by hand: the set is small, closed and
//! read more often than it changes. Fields of features that are not offered (11.19)
//! are left out and skipped on input, except those that must be seen to be refused.
//!
//! A `bytes` field holds raw JSON text in the JSON encoding and any bytes in
//! Protobuf. Input may leave out any field, or give `null` for it; output leaves out
//! default values, except where 11.2 says that SDKs expect them.

/// Declares messages: each field with its Protobuf type and number, and in JSON with
/// the rules of [`json`].
macro_rules! messages {
    ($(
        $(#[$about:meta])*
        $name:ident {
            $(
                $(#[$field_about:meta])*
                [$($wire:tt)+] $field:ident: $kind:ty
            ),* $(,)?
        }
    )+) => {$(
        #[derive(Clone, PartialEq, Eq, ::prost::Message, ::serde::Serialize, ::serde::Deserialize)]
        $(#[$about])*
        #[serde(default)]
        pub struct $name {
            $(
                #[prost($($wire)+)]
                #[serde(
                    serialize_with = "crate::message::json::write",
                    deserialize_with = "crate::message::json::read",
                    skip_serializing_if = "crate::message::json::is_absent"
                )]
                $(#[$field_about])*
                pub $field: $kind,
            )*
        }

        impl crate::message::json::Structure for $name {}
    )+};
}

mod json;
mod push;
mod reply;
mod request;

pub(crate) use json::{Object, Structure};
pub use push::{
    ClientInfo, Connect, Disconnect, Join, Leave, Message, Publication, Push, Refresh, Subscribe,
    Unsubscribe,
};
pub use reply::{
    ConnectResult, Error, HistoryResult, PingResult, PresenceResult, PresenceStatsResult,
    PublishResult, RefreshResult, Reply, RpcResult, SubRefreshResult, SubscribeResult,
    UnsubscribeResult,
};
pub use request::{
    Command, ConnectRequest, EmulationRequest, FilterNode, HistoryRequest, PingRequest,
    PresenceRequest, PresenceStatsRequest, PublishRequest, RefreshRequest, RpcRequest, SendRequest,
    StreamPosition, SubRefreshRequest, SubscribeRequest, UnsubscribeRequest,
};

#[cfg(test)]
mod tests;
