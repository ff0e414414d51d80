#![expect(
    clippy::disallowed_methods,
    reason = "the test owns its tasks and clock"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::Message as _;
use api::xy::flags::v1::FeatureFlags;
use bus::{Bus, HistoryLimit, HistoryPolicy, HistoryQuery, MemoryBus, MemoryConfig, Now};
use lifecycle::{CancellationToken, Clock, Tasks};
use protocol::channel::Channel;

use super::{
    Change, ChangeError, Desk, Flag, FlagError, Flags, Keeper, Place, Setup, State, share,
};

const DEADLINE: Duration = Duration::from_secs(10);

fn merge(flags: &[(&str, Option<Flag>)]) -> Change {
    let owned = flags.iter().map(|(name, flag)| ((*name).to_owned(), *flag));
    Change::Merge(owned.collect())
}

fn rollout(percentage: u8) -> Option<Flag> {
    Some(Flag {
        enabled: true,
        percentage: Some(percentage),
    })
}

#[test]
fn places_in_a_flag_are_those_of_the_contract() {
    // Worked out by another program; clients in other languages depend on them.
    for (name, subject, expected) in PLACES {
        assert_eq!(share(name, subject), expected, "{name} {subject}");
    }
}

const PLACES: [(&str, &str, u8); 5] = [
    ("gateway.unsent_limit", "alice", 59),
    ("gateway.unsent_limit", "bob", 43),
    ("canary", "alice", 73),
    ("canary", "", 92),
    ("canary", "größe", 2),
];

#[test]
fn a_percentage_is_that_part_of_the_users_and_only_grows() {
    let flag = |percentage| rollout(percentage).expect("a flag");
    let users: Vec<String> = (0..20_000).map(|index| format!("user-{index}")).collect();
    for percentage in [0, 1, 25, 50, 99, 100] {
        let is_on = |user: &&String| flag(percentage).is_on("canary", user);
        let on = users.iter().filter(is_on).count();
        let expected = users.len() * usize::from(percentage) / 100;
        assert!(on.abs_diff(expected) < 300, "{percentage}: {on}");
    }
    for user in users.iter().filter(|user| flag(25).is_on("canary", user)) {
        assert!(flag(26).is_on("canary", user), "{user}");
    }
    let both = |user: &&String| flag(50).is_on("one", user) && flag(50).is_on("other", user);
    let both = users.iter().filter(both).count();
    assert!(
        both.abs_diff(5_000) < 300,
        "flags are not independent: {both}"
    );
}

#[test]
fn a_flag_that_is_off_or_not_there_is_on_for_nobody() {
    let off = Flag {
        enabled: false,
        percentage: Some(100),
    };
    let state = State::default()
        .changed(&merge(&[("a", Some(off))]))
        .unwrap();
    let flags = Flags::new(state);
    assert!(!flags.is_on("a", "alice") && flags.get("a", "alice") == Some(false));
    assert!(!flags.is_on("b", "alice") && flags.get("b", "alice").is_none());
}

#[test]
fn a_merge_leaves_others_and_a_replacement_does_not() {
    let first = State::default()
        .changed(&merge(&[
            ("a", Some(Flag::plain(true))),
            ("b", rollout(25)),
        ]))
        .unwrap();
    let second = first
        .changed(&merge(&[("a", None), ("c", Some(Flag::plain(false)))]))
        .unwrap();
    assert_eq!(second.flags.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(second.differences(&first), ["c=off", "a removed"]);
    let only = BTreeMap::from([("d".to_owned(), Flag::plain(true))]);
    let third = second.changed(&Change::Replace(only)).unwrap();
    assert_eq!(third.flags.keys().collect::<Vec<_>>(), ["d"]);
    assert_eq!(third.version, State::default().version + 3);
}

#[test]
fn what_can_not_be_a_flag_is_refused() {
    let refused = |name: &str, flag| {
        State::default()
            .changed(&merge(&[(name, flag)]))
            .unwrap_err()
    };
    for name in ["", "a b", "größe", &"x".repeat(129)] {
        assert!(
            matches!(refused(name, rollout(1)), FlagError::Name(_)),
            "{name}"
        );
    }
    assert_eq!(
        refused("a", rollout(101)),
        FlagError::Percentage("a".into())
    );
    let many = (0..1_001).map(|index| (format!("f{index}"), Flag::plain(true)));
    let refused = State::default().changed(&Change::Replace(many.collect()));
    assert_eq!(refused, Err(FlagError::TooMany));
}

#[test]
fn flags_are_written_as_booleans_where_that_says_all() {
    let state = State::default()
        .changed(&merge(&[
            ("a", Some(Flag::plain(true))),
            ("b", rollout(25)),
        ]))
        .unwrap();
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(
        text,
        r#"{"flags":{"a":true,"b":{"enabled":true,"percentage":25}},"version":2}"#
    );
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
    let message = FeatureFlags::decode(state.to_message().as_slice()).unwrap();
    assert_eq!(message.version, 2);
    assert!(message.flags["a"]);
    // Who knows booleans only is not in the part.
    assert!(!message.flags["b"]);
    assert_eq!(message.rollouts, BTreeMap::from([("b".to_owned(), 25)]));
}

struct Scene {
    bus: Bus,
    desk: Desk,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

const POLICY: HistoryPolicy = HistoryPolicy {
    size: 1,
    ttl_ms: 3_600_000,
    meta_ttl_ms: 0,
};

impl Scene {
    async fn start(folder: &Path) -> Self {
        let bus = Bus::Memory(Arc::new(MemoryBus::new(&MemoryConfig::default())));
        let setup = Setup {
            bus: bus.clone(),
            channel: Channel::new("xy.flags"),
            policy: Box::new(|| Some(POLICY)),
            place: Place::File(folder.join("feature-flags.json")),
            clock: Clock::start(),
            tasks: Tasks::new(),
        };
        let (desk, keeper) = Keeper::open(setup).await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(keeper.run(stop.clone()));
        Self {
            bus,
            desk,
            stop,
            running,
        }
    }

    /// What a client that comes now is given.
    async fn latest(&self) -> Option<FeatureFlags> {
        let query = HistoryQuery {
            since: None,
            limit: HistoryLimit::All,
            reverse: true,
        };
        let now = Now {
            mono_ms: 0,
            unix_ms: 0,
        };
        let channel = Channel::new("xy.flags");
        let found = self
            .bus
            .history(now, &channel, &POLICY, query)
            .await
            .unwrap();
        let data = found.publications.first()?.publication()?.data.clone();
        Some(FeatureFlags::decode(data).unwrap())
    }

    async fn told(&self, version: u64) -> FeatureFlags {
        let waiting = async {
            loop {
                match self.latest().await {
                    Some(told) if told.version == version => return told,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(DEADLINE, waiting)
            .await
            .expect("a publication")
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.running)
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn a_change_is_kept_in_force_and_published() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await;
    assert_eq!(scene.told(1).await.flags, BTreeMap::new());
    let change = merge(&[("canary", rollout(50))]);
    let changed = scene.desk.change(change.clone(), Some(1)).await.unwrap();
    assert_eq!(
        (changed.state.version, &*changed.differences),
        (2, &["canary=50%".to_owned()][..])
    );
    let told = scene.told(2).await;
    assert_eq!(told.rollouts["canary"], 50);
    assert!(scene.desk.flags().is_on("canary", "größe"));
    // Somebody who has not seen it is told what there is.
    let refused = scene.desk.change(change, Some(1)).await;
    let Err(ChangeError::Version(present)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(present.version, 2);
    scene.end().await;

    let again = Scene::start(folder.path()).await;
    assert_eq!(again.desk.flags().state().version, 2);
    assert_eq!(again.told(2).await.rollouts["canary"], 50);
    again.end().await;
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("feature-flags.json"), "{}").unwrap();
    let setup = Setup {
        bus: Bus::Memory(Arc::new(MemoryBus::new(&MemoryConfig::default()))),
        channel: Channel::new("xy.flags"),
        policy: Box::new(|| None),
        place: Place::File(folder.path().join("feature-flags.json")),
        clock: Clock::start(),
        tasks: Tasks::new(),
    };
    let error = Keeper::open(setup)
        .await
        .err()
        .expect("a refusal")
        .to_string();
    assert!(error.contains("feature-flags.json"), "{error}");
}

#[tokio::test]
async fn what_can_not_be_kept_is_not_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await;
    // A folder stands where the file belongs.
    std::fs::create_dir(folder.path().join("feature-flags.json")).unwrap();
    let refused = scene.desk.change(merge(&[("a", rollout(1))]), None).await;
    assert!(
        matches!(refused, Err(ChangeError::NotKept(_))),
        "{refused:?}"
    );
    assert_eq!(scene.desk.flags().state().version, 1);
    scene.end().await;
}
