//! The executable from outside, as far as it does not serve.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the executable in an empty environment, in a folder of its own.
fn tidegate(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the executable was built")
}

#[track_caller]
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is text")
}

#[test]
fn check_prints_the_whole_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let interval = [("TIDEGATE_CLIENT_PING_INTERVAL", "20s")];
    let output = tidegate(folder.path(), &["check"], &interval);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed = text(&output.stdout);
    assert!(
        printed.contains("ping_interval: 20s") && printed.contains("drain:"),
        "{printed}"
    );
    // What is printed is a file that means the same, and nothing was written for it.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    std::fs::write(folder.path().join("printed.yaml"), printed).unwrap();
    let again = tidegate(folder.path(), &["check", "-c", "printed.yaml"], &[]);
    assert_eq!(text(&again.stdout), printed, "{again:?}");
}

#[test]
fn check_tells_what_is_wrong_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("wrong.yaml"),
        "drain:\n  rate: fast\nwebsockets: {}\n",
    )
    .unwrap();
    let output = tidegate(
        folder.path(),
        &["check"],
        &[("TIDEGATE_CONFIG", "wrong.yaml")],
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "wrong.yaml:2:9: drain.rate: expected a whole number of at least 1, found the text \"fast\"\n\
         wrong.yaml:3:1: websockets: unknown key; did you mean \"websocket\"?\n"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn a_wrong_command_line_has_its_own_status() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["chekc"][..],
        &["token"],
        &["token", "--user", "a", "--ttl", "soon"],
        &["token", "--user", "a", "--subject", "xy.>.a"],
    ] {
        assert_eq!(
            tidegate(folder.path(), arguments, &[]).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    assert_eq!(
        tidegate(folder.path(), &["--help"], &[]).status.code(),
        Some(0)
    );
    let version = tidegate(folder.path(), &["--version"], &[]);
    assert!(text(&version.stdout).starts_with("tidegate "));
}

#[test]
fn tokens_come_out_alone_on_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = tidegate(
        folder.path(),
        &["token", "--user", "alice", "--ttl", "5m"],
        &[],
    );
    let token = text(&output.stdout).trim_end();
    assert_eq!(token.split('.').count(), 3, "{output:?}");
    assert!(folder.path().join("data/demo-secret").exists());
    // With a file the demo is off, and there is no secret to sign with.
    std::fs::write(folder.path().join("empty.yaml"), "").unwrap();
    let output = tidegate(
        folder.path(),
        &["token", "--user", "alice", "-c", "empty.yaml"],
        &[],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("client.token.hmac_secret_key"),
        "{output:?}"
    );
}

#[test]
fn administrator_tokens_are_made_listed_and_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let admin = |arguments: &[&str]| {
        let arguments: Vec<_> = ["admin-token"].iter().chain(arguments).copied().collect();
        tidegate(folder.path(), &arguments, &[])
    };
    let made = admin(&["--name", "alice"]);
    assert!(text(&made.stdout).starts_with("tga_"), "{made:?}");
    let stored = std::fs::read_to_string(folder.path().join("data/admin-tokens.json")).unwrap();
    assert!(!stored.contains(text(&made.stdout).trim_end()));
    assert_eq!(admin(&["--name", "alice"]).status.code(), Some(1));
    assert_eq!(text(&admin(&["--list"]).stdout), "alice\n");
    assert_eq!(admin(&["--remove", "alice"]).status.code(), Some(0));
    assert_eq!(admin(&["--remove", "alice"]).status.code(), Some(1));
    assert!(admin(&["--list"]).stdout.is_empty());
}

#[test]
fn the_schema_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let output = tidegate(folder.path(), &["schema"], &[]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert!(
        schema["properties"]["client"]["$ref"].is_string(),
        "{}",
        schema["properties"]["client"]
    );
}

#[test]
fn a_route_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let file = "relay:\n  routes:\n    - client_id_prefix: client-1-1000\n      agent: ws://one.example/ws\n    \
                - client_id_prefix: client-\n      agent: ws://two.example/ws\n";
    std::fs::write(folder.path().join("relay.yaml"), file).unwrap();
    let route = |client: &str| {
        let arguments = ["route", "--client", client, "-c", "relay.yaml"];
        tidegate(folder.path(), &arguments, &[])
    };
    let output = route("client-123");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        text(&output.stdout),
        "client \"client-123\" goes to ws://one.example/ws\n  \
         by relay.routes[0] (\"client-1-1000\"): 123 of \"client\" is in the range from 1 to 1000\n\
         what matches too and loses:\n  \
         relay.routes[1] (\"client-\"): the client id begins with this prefix; a range is stronger than a prefix\n"
    );
    let output = route("unknown-999");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        text(&output.stderr),
        "no route for client \"unknown-999\"\n"
    );
}

#[test]
fn quantum_is_tried_between_two_processes() {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    let folder = tempfile::tempdir().unwrap();
    let made = tidegate(folder.path(), &["quantum", "keys", "keys"], &[]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    assert!(text(&made.stdout).contains("keys/client-key.pem"));
    let again = tidegate(folder.path(), &["quantum", "keys", "keys"], &[]);
    assert_eq!(
        again.status.code(),
        Some(1),
        "files that are there stay: {again:?}"
    );
    let mut echo = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args([
            "quantum",
            "echo",
            "--listen",
            "127.0.0.1:0",
            "--keys",
            "keys",
        ])
        .current_dir(folder.path())
        .env_clear()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(echo.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.split(' ').nth(2).unwrap().to_owned();
    let ping = [
        "quantum", "ping", &address, "--keys", "keys", "-n", "3", "-i", "1ms",
    ];
    let pinged = tidegate(folder.path(), &ping, &[]);
    let bench = [
        "quantum", "bench", &address, "--keys", "keys", "-d", "100ms",
    ];
    let benched = tidegate(folder.path(), &bench, &[]);
    let mut anonymous = ping.to_vec();
    anonymous.push("--anonymous");
    let refused = tidegate(folder.path(), &anonymous, &[]);
    echo.kill().unwrap();
    echo.wait().unwrap();
    assert_eq!(pinged.status.code(), Some(0), "{pinged:?}");
    assert!(
        text(&pinged.stdout).contains("3 calls, 3 answered"),
        "{pinged:?}"
    );
    assert_eq!(benched.status.code(), Some(0), "{benched:?}");
    assert!(text(&benched.stdout).contains("calls/s"), "{benched:?}");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}
