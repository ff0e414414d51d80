//! What sources of market data publish, and what the aggregator of before has left.

use api::Message as _;
use api::xy::md::v1;
use bus::Now;
use market::aggregator::{Grouping, Limits, Taken};
use market::wire;
use market::{Aggregator, generator};

/// Any message is read as the contract's own types read it. What the aggregator takes of it stands
/// in the next batch and in the next snapshot, as messages of the contract; from these the state
/// comes back. Later messages of the input are separated by an empty line.
pub fn source(data: &[u8]) {
    for message in split(data) {
        same_tick(message);
        same_snapshot(message);
    }
    let mut aggregator = fresh();
    let mut is_taken = false;
    for message in split(data) {
        let symbol = wire::Tick::read(message).map(|tick| tick.symbol);
        let symbol = String::from_utf8_lossy(symbol.unwrap_or_default());
        for kind in ["tick", "snapshot", "heartbeat"] {
            let subject = format!("xy.src.{kind}.demo.{symbol}");
            let taken = aggregator.take(&subject, Some(1), message, NOW);
            is_taken |= matches!(taken, Ok(Taken::Tick));
        }
    }
    let mut batches = Vec::new();
    aggregator.cut_ticks(NOW, |offer| {
        batches.push((offer.group, offer.payload.to_vec()));
        true
    });
    assert_eq!(is_taken, !batches.is_empty(), "what was taken is told");
    for (_, batch) in &batches {
        let Ok(batch) = v1::TickBatch::decode(batch.as_slice()) else {
            panic!("a batch cannot be read");
        };
        assert!(batch.ticks.iter().all(|tick| tick.price > 0.0));
    }
    let mut again = fresh();
    for group in 0..GROUPS {
        let snapshot = aggregator.snapshot(group, NOW, 0);
        let payload = snapshot
            .map(|snapshot| snapshot.payload)
            .unwrap_or_default();
        assert!(v1::SnapshotBatch::decode(payload.clone()).is_ok());
        let name = aggregator.grouping().name(group).to_owned();
        assert!(again.restore_snapshot(&name, &payload).is_ok());
        let back = again
            .snapshot(group, NOW, 0)
            .map(|snapshot| snapshot.payload);
        assert_eq!(back, Some(payload), "the state is as it was");
    }
}

/// What is kept on the bus may be anything; it is taken or refused, and what was taken can be
/// published.
pub fn restore(data: &[u8]) {
    let mut aggregator = fresh();
    for message in split(data) {
        for group in ["g00", "g01", "g99"] {
            let (Ok(_) | Err(_)) = aggregator.restore_snapshot(group, message);
            let (Ok(_) | Err(_)) = aggregator.restore_ticks(group, message);
        }
    }
    let mut market = generator::Generator::new(4, 1, 1.0);
    market.step(NOW.unix_ms.cast_signed(), |one| {
        let (Ok(()) | Err(_)) = aggregator.take_tick(&one.tick, NOW);
    });
    for group in 0..GROUPS {
        let snapshot = aggregator.snapshot(group, NOW, 0);
        let payload = snapshot
            .map(|snapshot| snapshot.payload)
            .unwrap_or_default();
        assert!(v1::SnapshotBatch::decode(payload).is_ok());
    }
    aggregator.cut_ticks(NOW, |offer| {
        assert!(v1::TickBatch::decode(offer.payload).is_ok());
        true
    });
}

fn same_tick(message: &[u8]) {
    match (wire::Tick::read(message), v1::Tick::decode(message)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.symbol, theirs.symbol.as_bytes());
            assert_eq!((ours.ts_ms, ours.volume), (theirs.ts_ms, theirs.volume));
            assert_eq!(ours.price.to_bits(), theirs.price.to_bits());
        }
        // A symbol that is no text is refused later, and groups of fields are not supported.
        (Ok(ours), Err(error)) => {
            assert!(
                std::str::from_utf8(ours.symbol).is_err() || is_repeated(message),
                "{error}"
            );
        }
        (Err(wire::WireError::Unsupported { .. }), Ok(_)) | (Err(_), Err(_)) => {}
        (Err(error), Ok(theirs)) => panic!("{theirs:?} was refused: {error}"),
    }
}

fn same_snapshot(message: &[u8]) {
    match (wire::Snapshot::read(message), v1::Snapshot::decode(message)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.symbol, theirs.symbol.as_bytes());
            let sizes = (theirs.bid_size, theirs.ask_size, theirs.volume);
            assert_eq!((ours.bid_size, ours.ask_size, ours.volume), sizes);
            let prices = [ours.bid, ours.ask, ours.last].map(f64::to_bits);
            assert_eq!(
                prices,
                [theirs.bid, theirs.ask, theirs.last].map(f64::to_bits)
            );
        }
        (Ok(ours), Err(error)) => {
            assert!(
                std::str::from_utf8(ours.symbol).is_err() || is_repeated(message),
                "{error}"
            );
        }
        (Err(wire::WireError::Unsupported { .. }), Ok(_)) | (Err(_), Err(_)) => {}
        (Err(error), Ok(theirs)) => panic!("{theirs:?} was refused: {error}"),
    }
}

/// Whether there may be a symbol before the last one that is no text, of which the contract's
/// types complain and the aggregator does not.
fn is_repeated(message: &[u8]) -> bool {
    message.iter().any(|byte| !byte.is_ascii())
}

fn split(data: &[u8]) -> Vec<&[u8]> {
    let mut rest = data;
    let mut messages = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\n\n") {
        messages.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    messages.push(rest);
    messages.truncate(64);
    messages
}

fn fresh() -> Aggregator {
    let limits = Limits {
        symbols_max: 16,
        skew_max_ms: 0,
    };
    let grouping = Grouping::new(GROUPS, 1);
    match grouping {
        Ok(grouping) => Aggregator::new(grouping, limits),
        Err(error) => panic!("{error}"),
    }
}

const GROUPS: usize = 2;
const NOW: Now = Now {
    mono_ms: 5,
    unix_ms: 1_700_000_000_000,
};
