use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Command, Connect, ConnectRequest, ConnectResult, EmulationRequest, RefreshRequest, Reply,
    SubRefreshRequest, SubscribeRequest,
};

/// Field numbers and types as the contract lists them (centrifuge 11.3), for the fields
/// that exist here: u unsigned, i signed, b bool, S text, B bytes, M message, r repeated
/// message, m map to messages, n map to texts.
const FIELDS: &[(&str, &str)] = &[
    (
        "Command",
        "id=1u connect=4M subscribe=5M unsubscribe=6M publish=7M presence=8M presence_stats=9M \
         history=10M ping=11M send=12M rpc=13M refresh=14M sub_refresh=15M",
    ),
    (
        "Reply",
        "id=1u error=2M push=4M connect=5M subscribe=6M unsubscribe=7M publish=8M presence=9M \
         presence_stats=10M history=11M ping=12M rpc=13M refresh=14M sub_refresh=15M",
    ),
    (
        "Push",
        "channel=2S pub=4M join=5M leave=6M unsubscribe=7M message=8M subscribe=9M connect=10M \
         disconnect=11M refresh=12M",
    ),
    ("Error", "code=1u message=2S temporary=3b"),
    (
        "ConnectRequest",
        "token=1S data=2B subs=3m name=4S version=5S headers=6n",
    ),
    (
        "ConnectResult",
        "client=1S version=2S expires=3b ttl=4u data=5B subs=6m ping=7u pong=8b session=9S \
         node=10S time=11i",
    ),
    (
        "SubscribeRequest",
        "channel=1S token=2S recover=3b epoch=6S offset=7u data=8B positioned=9b recoverable=10b \
         join_leave=11b delta=12S tf=13M flag=14i type=15i",
    ),
    (
        "SubscribeResult",
        "expires=1b ttl=2u recoverable=3b epoch=6S publications=7r recovered=8b offset=9u \
         positioned=10b data=11B was_recovering=12b",
    ),
    ("UnsubscribeRequest", "channel=1S"),
    ("PublishRequest", "channel=1S data=2B"),
    ("PresenceRequest", "channel=1S"),
    ("PresenceResult", "presence=1m"),
    ("PresenceStatsRequest", "channel=1S"),
    ("PresenceStatsResult", "num_clients=1u num_users=2u"),
    ("HistoryRequest", "channel=1S limit=7i since=8M reverse=9b"),
    ("HistoryResult", "publications=1r epoch=2S offset=3u"),
    ("StreamPosition", "offset=1u epoch=2S"),
    ("RpcRequest", "data=1B method=2S"),
    ("RpcResult", "data=1B"),
    ("SendRequest", "data=1B"),
    ("RefreshRequest", "token=1S"),
    ("RefreshResult", "client=1S version=2S expires=3b ttl=4u"),
    ("SubRefreshRequest", "channel=1S token=2S"),
    ("SubRefreshResult", "expires=1b ttl=2u"),
    (
        "Publication",
        "data=4B info=5M offset=6u tags=7n channel=10S epoch=14S",
    ),
    ("ClientInfo", "user=1S client=2S conn_info=3B chan_info=4B"),
    ("Join", "info=1M"),
    ("Leave", "info=1M"),
    ("Message", "data=1B"),
    ("Unsubscribe", "code=2u reason=3S"),
    (
        "Subscribe",
        "recoverable=1b epoch=4S offset=5u positioned=6b data=7B",
    ),
    (
        "Connect",
        "client=1S version=2S data=3B subs=4m expires=5b ttl=6u ping=7u pong=8b session=9S \
         node=10S time=11i",
    ),
    ("Disconnect", "code=1u reason=2S reconnect=3b"),
    ("Refresh", "expires=1b ttl=2u"),
];

/// Checks the named types, which must be all of the table, against their lines.
macro_rules! check_fields {
    ($($name:ident)+) => {
        let names = [$(stringify!($name)),+];
        assert_eq!(names.as_slice(), FIELDS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let mut fields = FIELDS.iter().map(|(_, fields)| *fields);
        $(check::<super::$name>(stringify!($name), fields.next().unwrap());)+
    };
}

#[test]
fn fields_have_the_numbers_and_types_of_the_protocol() {
    check_fields! {
        Command Reply Push Error ConnectRequest ConnectResult SubscribeRequest SubscribeResult
        UnsubscribeRequest PublishRequest PresenceRequest PresenceResult PresenceStatsRequest
        PresenceStatsResult HistoryRequest HistoryResult StreamPosition RpcRequest RpcResult
        SendRequest RefreshRequest RefreshResult SubRefreshRequest SubRefreshResult Publication
        ClientInfo Join Leave Message Unsubscribe Subscribe Connect Disconnect Refresh
    }
}

/// Sets all fields by their JSON names, writes the message in Protobuf, and looks at the
/// bytes without the types: which field numbers and wire types there are.
fn check<M: prost::Message + Default + Serialize + DeserializeOwned>(name: &str, fields: &str) {
    let mut json = serde_json::Map::new();
    let mut expected = Vec::new();
    for field in fields.split_whitespace() {
        let (field, place) = field.split_once('=').unwrap();
        let (number, kind) = place.split_at(place.len() - 1);
        let (value, wire_type) = match kind {
            "u" | "i" => ("1", VARINT),
            "b" => ("true", VARINT),
            "S" | "B" => ("\"text\"", LENGTH_DELIMITED),
            "M" => ("{}", LENGTH_DELIMITED),
            "r" => ("[{}]", LENGTH_DELIMITED),
            "m" => ("{\"k\":{}}", LENGTH_DELIMITED),
            "n" => ("{\"k\":\"v\"}", LENGTH_DELIMITED),
            _ => panic!("{name}.{field} has no known kind"),
        };
        json.insert(field.to_owned(), serde_json::from_str(value).unwrap());
        expected.push((number.parse::<u64>().unwrap(), wire_type));
    }
    let text = serde_json::to_string(&json).unwrap();
    let message: M = serde_json::from_str(&text).unwrap();
    assert_eq!(walk(&message.encode_to_vec()), expected, "{name}");

    // All names are known, and none is written but these; values may have grown the
    // fields that are always there.
    let written: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&serde_json::to_string(&message).unwrap()).unwrap();
    assert!(written.keys().eq(json.keys()), "{name}: {written:?}");
}

fn walk(mut bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (number, wire_type) = (key >> 3, key & 7);
        match wire_type {
            VARINT => {
                varint(&mut bytes);
            }
            LENGTH_DELIMITED => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                bytes = &bytes[length..];
            }
            _ => panic!("wire type {wire_type}"),
        }
        seen.push((number, wire_type));
    }
    seen
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

#[test]
fn default_values_are_left_out_but_where_clients_expect_them() {
    fn written<M: Serialize + Default>() -> String {
        serde_json::to_string(&M::default()).unwrap()
    }
    assert_eq!(written::<Command>(), "{}");
    assert_eq!(written::<Reply>(), "{}");
    assert_eq!(written::<super::SubscribeResult>(), "{}");
    assert_eq!(written::<super::Publication>(), "{}");
    assert_eq!(written::<super::ClientInfo>(), r#"{"user":"","client":""}"#);
    assert_eq!(written::<super::PresenceResult>(), r#"{"presence":{}}"#);
    assert_eq!(
        written::<super::PresenceStatsResult>(),
        r#"{"num_clients":0,"num_users":0}"#
    );
    assert_eq!(
        written::<super::HistoryResult>(),
        r#"{"publications":[],"epoch":"","offset":0}"#,
    );
}

#[test]
fn secrets_are_not_printed() {
    let secret = || "eyJhbGci".to_owned();
    let subscribe = SubscribeRequest {
        token: secret(),
        ..SubscribeRequest::default()
    };
    let connect = ConnectRequest {
        token: secret(),
        subs: BTreeMap::from([("a".to_owned(), subscribe.clone())]),
        headers: BTreeMap::from([("authorization".to_owned(), secret())]),
        ..ConnectRequest::default()
    };
    let command = Command {
        connect: Some(Box::new(connect)),
        subscribe: Some(Box::new(subscribe)),
        refresh: Some(RefreshRequest { token: secret() }),
        sub_refresh: Some(SubRefreshRequest {
            channel: "a".to_owned(),
            token: secret(),
        }),
        ..Command::default()
    };
    let connected = ConnectResult {
        session: secret(),
        ..ConnectResult::default()
    };
    let pushed = Connect {
        session: secret(),
        ..Connect::default()
    };
    let emulation = EmulationRequest {
        session: secret(),
        data: Bytes::from(secret()),
        node: String::new(),
    };
    let printed = format!("{command:?} {connected:?} {pushed:?} {emulation:?}");
    assert!(!printed.contains("eyJ"), "{printed}");
    assert!(printed.contains("[redacted]"));
}

#[test]
fn messages_are_small_enough_to_move_about() {
    assert!(size_of::<Command>() <= 384, "{}", size_of::<Command>());
    assert!(size_of::<Reply>() <= 320, "{}", size_of::<Reply>());
    assert!(
        size_of::<super::Push>() <= 256,
        "{}",
        size_of::<super::Push>()
    );
}

const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;
