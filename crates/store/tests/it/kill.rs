//! A process that writes is killed at random moments; what it leaves is whole.
//!
//! The process is this binary, started again for one test. It says which revisions were
//! reported to it as done. After each kill the database is read by somebody else: each row
//! is one version and nothing in between, no version is missing, and the revision is the
//! one last reported or the one after it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lifecycle::Tasks;
use sqlx::Row as _;
use store::{ChangeKind, GLOBAL, HISTORY_MAX, Location, Store};

use crate::place::{Place, author, key};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_leave_a_file_whole() {
    let place = Place::sqlite();
    killed(&place, 200, 40_000).await;
    let mut past = place.connect().await;
    let checked: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut past)
        .await
        .unwrap();
    assert_eq!(checked, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_leave_a_server_whole() {
    killed(&Place::postgres(), 30, 200_000).await;
}

/// What the killed process does; no test of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer() {
    let Some(url) = std::env::var_os(URL) else {
        return;
    };
    let location = Location::parse(url.to_str().unwrap()).unwrap();
    let seed = std::env::var_os(SEED).unwrap();
    let mut chance = Chance(seed.to_str().unwrap().parse().unwrap());
    let store = Store::open(&location, Some(key(1)), &Tasks::new())
        .await
        .unwrap();
    println!("{MARK}{}", *store.changes().borrow());
    loop {
        change(&store, &mut chance).await;
        println!("{MARK}{}", *store.changes().borrow());
    }
}

/// Kills a writer so many times, each within so many microseconds after it began to write.
async fn killed(place: &Place, times: u64, microseconds_max: u64) {
    let mut acknowledged = 0;
    for seed in 1..=times {
        let mut chance = Chance(seed);
        let mut process = start(place, seed);
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut heard = String::new();
        if chance.below(4) == 0 {
            // While it opens the database, or before.
            pause(&mut chance, 60_000);
        } else {
            while !heard.contains(MARK) {
                let length = said.read_line(&mut heard).unwrap();
                assert_ne!(length, 0, "the writer ended by itself: {heard}");
            }
            pause(&mut chance, microseconds_max);
        }
        process.kill().unwrap();
        process.wait().unwrap();
        said.read_to_string(&mut heard).unwrap();
        // The last line may be cut.
        let lines = heard
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let revisions =
            lines.filter_map(|line| line.split_once(MARK)?.1.trim().parse::<u64>().ok());
        acknowledged = revisions.max().unwrap_or(0).max(acknowledged);
        let revision = whole(place).await;
        assert!(
            (acknowledged..=acknowledged + 1).contains(&revision),
            "revision {revision} after {acknowledged} was reported, seed {seed}"
        );
        acknowledged = revision;
    }
    assert!(
        acknowledged > times,
        "only {acknowledged} changes were made"
    );
}

fn start(place: &Place, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::writer", "--nocapture"])
        .env(URL, &place.url)
        .env(SEED, seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn pause(chance: &mut Chance, microseconds_max: u64) {
    let pause = Duration::from_micros(chance.below(microseconds_max));
    std::thread::park_timeout(pause);
}

/// One change of one of a few rows or of the secret.
async fn change(store: &Store, chance: &mut Chance) {
    let at = chance.below(1 << 40);
    let author = author();
    if chance.below(8) == 0 {
        let puts = match store.secret("K", GLOBAL).await.unwrap() {
            Some(value) => puts(value.reveal()),
            None => 0,
        };
        let value = filled(puts + 1);
        let put = store.put_secret("K", GLOBAL, &value, &author, at);
        return put.await.unwrap();
    }
    let rows = store.snapshot().await.unwrap().rows;
    let path = format!("/-/{}", chance.below(6));
    let Some(row) = rows.iter().find(|row| row.path == path) else {
        store.create(&path, &filled(at), &author, at).await.unwrap();
        return;
    };
    let version = Some(row.version);
    match chance.below(8) {
        0 => {
            store.delete(&row.id, version, &author, at).await.unwrap();
        }
        1 | 2 => {
            let history = store.history(&row.id, 5, None).await.unwrap();
            let same = history.iter().rfind(|change| change.row.path == row.path);
            let to = same.map_or(row.version, |change| change.row.version);
            let back = store.rollback(&row.id, to, version, &author, at);
            back.await.unwrap();
        }
        _ => {
            let document = filled(at);
            let update = store.update(&row.id, version, &path, &document, &author, at);
            update.await.unwrap();
        }
    }
}

/// Checks all that is there; the revision.
async fn whole(place: &Place) -> u64 {
    let store = place.open().await;
    // A server may still be at the commit that the killed process has asked for.
    let mut past = place.connect().await;
    sqlx::raw_sql("UPDATE meta SET revision = revision")
        .execute(&mut past)
        .await
        .unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let mut changes = match store.secret("K", GLOBAL).await.unwrap() {
        Some(value) => puts(value.reveal()),
        None => 0,
    };
    let histories = sqlx::query(
        "SELECT id, MIN(version), MAX(version), COUNT(*) FROM proxy_history GROUP BY id",
    )
    .fetch_all(&mut past)
    .await
    .unwrap();
    let mut alive = 0;
    for history in histories {
        let id: String = history.get(0);
        let [first, last, count] = [1, 2, 3].map(|column| {
            let value: i64 = history.get(column);
            u64::try_from(value).unwrap()
        });
        assert_eq!(count, last - first + 1, "versions are missing");
        assert!(first == 1 || count == HISTORY_MAX, "too much is forgotten");
        changes += last;
        let latest = store.version(&id, last).await.unwrap();
        puts(&latest.row.document);
        let row = snapshot.rows.iter().find(|row| row.id == id);
        if latest.kind == ChangeKind::Delete {
            assert_eq!(row, None);
        } else {
            assert_eq!(row, Some(&latest.row));
            alive += 1;
        }
    }
    assert_eq!(snapshot.rows.len(), alive, "rows without a history");
    assert_eq!(snapshot.revision, changes);
    store.close().await;
    snapshot.revision
}

/// A text over several pages of the file that shows whether all of it is there.
fn filled(number: u64) -> String {
    let filling = char::from(b'a' + u8::try_from(number % 26).unwrap());
    format!("{number}:{}:{number}", String::from(filling).repeat(12_000))
}

/// The number of a whole [`filled`] text.
fn puts(text: &str) -> u64 {
    let number = text.split(':').next().unwrap().parse().unwrap();
    assert!(text == filled(number), "text is not whole");
    number
}

/// Numbers from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

const URL: &str = "STORE_OF_A_WRITER";
const SEED: &str = "SEED_OF_A_WRITER";
const MARK: &str = "revision: ";
