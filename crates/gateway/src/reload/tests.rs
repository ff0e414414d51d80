use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle::{CancellationToken, Hangups, Tasks};
use tempfile::TempDir;
use tokio::time::timeout;

use super::{FIXED, Outcome, Reloader, Source, is_fixed};
use crate::config::Config;

const DEADLINE: Duration = Duration::from_secs(10);

fn start(folder: &Path, text: &str) -> Reloader {
    let file = folder.join("tidegate.yaml");
    std::fs::write(&file, text).unwrap();
    let source = Source {
        file: Some(file),
        environment: Vec::new(),
    };
    let loaded = source.load().unwrap();
    Reloader::new(source, loaded)
}

fn applied_new(key: &str) -> Outcome {
    Outcome::Applied {
        changed: vec![key.to_owned()],
        kept: Vec::new(),
    }
}

fn rewrite(folder: &TempDir, text: &str) {
    // As editors do: a new file takes the old one's place.
    let draft = folder.path().join("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, folder.path().join("tidegate.yaml")).unwrap();
}

#[test]
fn a_change_is_applied_and_a_comment_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let mut reloader = start(folder.path(), "client: { channel_limit: 5 }\n");
    let mut applied = Vec::new();
    let mut apply = |config: Arc<Config>| {
        applied.push(config.client.settings.channel_limit);
        Ok(())
    };
    rewrite(&folder, "# why five\nclient: { channel_limit: 5 }\n");
    assert_eq!(reloader.reload(&mut apply), Outcome::Unchanged);
    rewrite(&folder, "client: { channel_limit: 6 }\n");
    assert_eq!(
        reloader.reload(&mut apply),
        applied_new("client.channel_limit")
    );
    assert_eq!(reloader.running().client.settings.channel_limit, 6);
    assert_eq!(applied, [6]);
}

#[test]
fn a_wrong_file_changes_nothing_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut reloader = start(folder.path(), "client: { channel_limit: 5 }\n");
    let before = reloader.running();
    rewrite(
        &folder,
        "client: { channel_limit: 6 }\ndrain: { rate: fast }\n",
    );
    let outcome = reloader.reload(&mut |_: Arc<Config>| panic!("nothing to apply"));
    let Outcome::Refused(reason) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        reason.contains("tidegate.yaml:2:16: drain.rate: expected"),
        "{reason}"
    );
    assert!(Arc::ptr_eq(&before, &reloader.running()));
}

#[test]
fn what_the_callback_refuses_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mut reloader = start(folder.path(), "");
    rewrite(&folder, "client: { channel_limit: 6 }\n");
    let refused = reloader.reload(&mut |_: Arc<Config>| Err("not now".to_owned()));
    assert_eq!(refused, Outcome::Refused("not now".into()));
    assert_eq!(reloader.running().client.settings.channel_limit, 128);
    // The same file is tried again the next time.
    let again = reloader.reload(&mut |_: Arc<Config>| Ok(()));
    assert_eq!(again, applied_new("client.channel_limit"));
}

#[test]
fn fixed_keys_are_named_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut reloader = start(folder.path(), "workers: 1\n");
    rewrite(
        &folder,
        "workers: 2\nlisteners: { main: { address: \"127.0.0.1:9000\" } }\nclient: { channel_limit: 6 }\n",
    );
    let outcome = reloader.reload(&mut |_: Arc<Config>| Ok(()));
    assert_eq!(
        outcome,
        Outcome::Applied {
            changed: vec!["client.channel_limit".to_owned()],
            kept: vec!["workers", "listeners.main.address"]
        }
    );
    let running = reloader.running();
    assert_eq!(
        (running.workers, running.client.settings.channel_limit),
        (1, 6)
    );
    assert_eq!(running.listeners.main.address.port(), 8000);
    // Told once.
    assert_eq!(
        reloader.reload(&mut |_: Arc<Config>| Ok(())),
        Outcome::Unchanged
    );
}

#[test]
fn fixed_keys_exist() {
    let leaves = crate::config::key_paths();
    for fixed in FIXED {
        assert!(
            leaves
                .iter()
                .any(|path| path == fixed || path.starts_with(&format!("{fixed}."))),
            "{fixed}"
        );
    }
    assert!(is_fixed("bus.memory.channels_max") && !is_fixed("log.level"));
}

#[test]
fn a_renewed_certificate_is_applied_though_no_setting_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let renew = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    };
    renew();
    let text = format!(
        "listeners: {{ main: {{ tls: {{ certificate: {certificate:?}, key: {key:?} }} }} }}\n"
    );
    let mut reloader = start(folder.path(), &text);
    assert_eq!(
        reloader.reload(&mut |_: Arc<Config>| Ok(())),
        Outcome::Unchanged
    );
    renew();
    let outcome = reloader.reload(&mut |_: Arc<Config>| Ok(()));
    let renewed = [&certificate, &key].map(|file| file.display().to_string());
    let applied = Outcome::Applied {
        changed: renewed.into(),
        kept: Vec::new(),
    };
    assert_eq!(outcome, applied);
    std::fs::write(&key, "torn").unwrap();
    let outcome = reloader.reload(&mut |_: Arc<Config>| panic!("nothing to apply"));
    assert!(
        matches!(outcome, Outcome::Refused(reason) if reason.contains("listeners.main.tls.key"))
    );
}

#[tokio::test]
async fn a_written_file_is_noticed_without_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let reloader = start(folder.path(), "");
    let handle = reloader.handle();
    let limits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&limits);
    let (outcomes, mut told) = tokio::sync::mpsc::channel(8);
    let tasks = Tasks::new();
    let stopping: CancellationToken = tasks.stopping();
    let hangups = Hangups::listen().unwrap();
    tasks.spawn("reload", async move {
        let apply = move |config: Arc<Config>| {
            seen.lock()
                .unwrap()
                .push(config.client.settings.channel_limit);
            Ok(())
        };
        let observe = move |outcome: &Outcome| {
            outcomes.try_send(outcome.clone()).unwrap();
        };
        reloader.run(hangups, stopping, apply, observe).await;
    });
    // Answered from within the loop, so from here on the folder is watched.
    assert_eq!(handle.reload().await, Some(Outcome::Unchanged));
    assert_eq!(told.recv().await, Some(Outcome::Unchanged));
    rewrite(&folder, "client: { channel_limit: 7 }\n");
    let outcome = timeout(DEADLINE, told.recv()).await.unwrap();
    assert_eq!(outcome, Some(applied_new("client.channel_limit")));
    assert_eq!(*limits.lock().unwrap(), [7]);
    assert!(tasks.stop(DEADLINE).await);
    assert_eq!(handle.reload().await, None);
}
