use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use upstream::ws_agent::{AgentAuth, DataEncoding, Peer, Target};

use super::{Builder, RouteTable, Rule, RuleField, RuleKind};

fn target(url: &str) -> Target {
    Target {
        url: Arc::from(url),
        peer: Peer::OpenClaw,
        auth: AgentAuth::None,
        tls_fingerprint: None,
        agent_id: Arc::from("main"),
        deltas: false,
        acks: false,
        data_encoding: DataEncoding::Auto,
        dial_timeout: Duration::from_secs(10),
        try_timeout: Duration::from_secs(30),
        in_flight: 256,
        idle_timeout: Duration::from_secs(300),
    }
}

/// A table of rules: `=id` is exact, everything else a prefix; the agents' hosts follow.
fn table(rules: &[(&str, &[&str])]) -> RouteTable {
    let mut builder = Builder::default();
    builder.source("relay.routes");
    for (text, hosts) in rules {
        let mut agents: Vec<_> = hosts
            .iter()
            .map(|host| target(&format!("ws://{host}/ws")))
            .collect();
        let rule = match text.strip_prefix('=') {
            Some(id) => Rule::exact(id, agents.remove(0)),
            None => Rule::prefix(text, agents),
        };
        builder.add(rule.unwrap()).unwrap();
    }
    builder.build()
}

fn host(table: &RouteTable, client: &str) -> Option<String> {
    let url = table.lookup(client)?.target.url.to_string();
    url.strip_prefix("ws://")?
        .strip_suffix("/ws")
        .map(str::to_owned)
}

#[track_caller]
fn assert_goes(table: &RouteTable, client: &str, expected: &str) {
    assert_eq!(
        host(table, client).as_deref(),
        Some(expected),
        "{}",
        table.explain(client)
    );
}

#[test]
fn ranges_of_the_seed_match_numbers_inclusively() {
    let table = table(&[
        ("client-1-1000", &["gateway1"]),
        ("client-1001-2000", &["gateway2"]),
    ]);
    assert_goes(&table, "client-123", "gateway1");
    let found = table.lookup("client-123").unwrap();
    assert_eq!(table.text(found.rule), "client-1-1000");
    assert_eq!(table.name(found.rule), "relay.routes[0]");
    for (client, expected) in [
        ("client-1", "gateway1"),
        ("client-1000", "gateway1"),
        ("client-1001", "gateway2"),
        ("client-2000", "gateway2"),
    ] {
        assert_goes(&table, client, expected);
    }
    for client in [
        "client-0",
        "client-2001",
        "client-0123",
        "client-",
        "client",
        "client-1-1000",
        "Client-123",
        "client-+5",
        "client--5",
        "client-12x",
        "client-99999999999999999999999",
        "unknown-999",
        "",
    ] {
        assert_eq!(host(&table, client), None, "{client:?}");
    }
}

#[test]
fn exact_ids_come_before_ranges_and_ranges_before_the_longest_prefix() {
    let table = table(&[
        ("", &["everybody"]),
        ("client-", &["prefix"]),
        ("client-12", &["longer"]),
        ("client-1-1000", &["range"]),
        ("=client-5", &["exact"]),
    ]);
    for (client, expected) in [
        ("client-5", "exact"),
        ("client-123", "range"),
        ("client-1234", "longer"),
        ("client-2000", "prefix"),
        ("client", "everybody"),
        ("", "everybody"),
        ("grüße", "everybody"),
    ] {
        assert_goes(&table, client, expected);
    }
}

#[test]
fn what_only_looks_like_a_range_is_a_prefix() {
    for (text, client) in [
        ("client-9-3", "client-9-3x"),
        ("client-01-10", "client-01-10"),
        ("-1-5", "-1-5a"),
        (
            "client-1-99999999999999999999999",
            "client-1-99999999999999999999999",
        ),
    ] {
        let table = table(&[(text, &["a"])]);
        assert_goes(&table, client, "a");
        assert_eq!(host(&table, "client-4"), None);
    }
    let table = table(&[
        ("eu-west-1-5", &["a"]),
        ("n-0-18446744073709551615", &["b"]),
    ]);
    assert_goes(&table, "eu-west-3", "a");
    assert_goes(&table, "n-0", "b");
    assert_goes(&table, "n-18446744073709551615", "b");
}

#[test]
fn of_overlapping_ranges_the_first_in_the_file_wins_and_both_are_named() {
    let table = table(&[
        ("c-10-20", &["a"]),
        ("c-1-100", &["b"]),
        ("c-15-30", &["c"]),
        ("c-200-300", &["d"]),
    ]);
    for (client, expected) in [
        ("c-9", "b"),
        ("c-10", "a"),
        ("c-20", "a"),
        ("c-21", "b"),
        ("c-100", "b"),
        ("c-250", "d"),
    ] {
        assert_goes(&table, client, expected);
    }
    let told = table.warnings().join("\n");
    assert!(
        told.contains(
            "relay.routes[1] (\"c-1-100\") overlaps relay.routes[0] (\"c-10-20\"), \
             which comes first and wins"
        ),
        "{told}"
    );
    assert!(!told.contains("c-200-300"), "{told}");
}

#[test]
fn the_same_rule_again_never_matches_and_is_named() {
    let table = table(&[
        ("a-", &["one"]),
        ("a-", &["two"]),
        ("=x", &["one"]),
        ("=x", &["two"]),
    ]);
    assert_goes(&table, "a-1", "one");
    assert_goes(&table, "x", "one");
    assert_eq!(table.warnings().len(), 2, "{:?}", table.warnings());
}

#[test]
fn a_removed_agent_moves_only_its_own_clients() {
    let before = table(&[("client-", &["a", "b", "c", "d"])]);
    let after = table(&[("client-", &["d", "a", "b"])]);
    let mut counts = BTreeMap::new();
    for number in 0..4_000 {
        let client = format!("client-{number}");
        let (old, new) = (host(&before, &client), host(&after, &client));
        if old.as_deref() != Some("c") {
            assert_eq!(old, new, "{client}");
        }
        *counts.entry(old).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 4);
    for (host, count) in counts {
        assert!((850..1150).contains(&count), "{host:?} has {count}");
    }
}

#[test]
fn the_choice_among_agents_is_the_same_in_every_version() {
    let table = table(&[("client-", &["a", "b", "c"])]);
    let hosts: Vec<_> = (0..8)
        .map(|number| host(&table, &format!("client-{number}")).unwrap())
        .collect();
    assert_eq!(hosts.join(""), "bccbbacb");
}

#[test]
fn equal_agents_are_kept_once() {
    let table = table(&[
        ("a", &["x"]),
        ("b", &["x"]),
        ("=c", &["x", "y"]),
        ("d", &["y"]),
    ]);
    assert_eq!(table.len(), 4);
    assert_eq!(table.agents().len(), 2);
    let same = |one: &str, other: &str| {
        let found = |client: &str| Arc::clone(table.lookup(client).unwrap().target);
        Arc::ptr_eq(&found(one), &found(other))
    };
    assert!(same("a", "b") && !same("a", "d"));
}

#[test]
fn a_wrong_rule_names_the_field() {
    let agent = || target("ws://a/ws");
    for (rule, field) in [
        (Rule::exact("", agent()), RuleField::Client),
        (Rule::exact(&"x".repeat(513), agent()), RuleField::Client),
        (Rule::prefix("a", Vec::new()), RuleField::Agents),
        (
            Rule::prefix("a", vec![agent(), agent()]),
            RuleField::Agent(1),
        ),
        (
            Rule::prefix("a", vec![agent(), target("http://b")]),
            RuleField::Agent(1),
        ),
    ] {
        assert_eq!(rule.unwrap_err().field, field);
    }
    for url in [
        "",
        "ws://",
        "ws:///ws",
        "ws://a:0",
        "ws://a:70000",
        "ws://a:",
        "ws://[::1",
        "ws://[x]/",
        "ws://a b",
        "ws://u:secret@a/",
        "ws://a/#x",
        "wss//a",
        "ws://ä",
        "ws://a/\n",
    ] {
        let error = Rule::prefix("a", vec![target(url)]).unwrap_err();
        assert_eq!(error.field, RuleField::Agent(0), "{url}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    for url in [
        "ws://a",
        "wss://a.example:8443/ws?x=1",
        "ws://[::1]:8080/ws",
    ] {
        assert!(Rule::prefix("a", vec![target(url)]).is_ok(), "{url}");
    }
}

#[test]
fn an_explanation_names_the_winner_the_losers_and_why() {
    let table = table(&[
        ("client-", &["a", "b"]),
        ("", &["everybody"]),
        ("client-1-1000", &["range"]),
        ("client-100-200", &["late"]),
        ("=client-123", &["exact"]),
    ]);
    assert_eq!(
        table.explain("client-123").to_string(),
        "client \"client-123\" goes to ws://exact/ws\n  \
         by relay.routes[4] (\"client-123\"): the exact client id\n\
         what matches too and loses:\n  \
         relay.routes[2] (\"client-1-1000\"): 123 of \"client\" is in the range from 1 to 1000; an exact id is stronger than a range\n  \
         relay.routes[3] (\"client-100-200\"): 123 of \"client\" is in the range from 100 to 200; an exact id is stronger than a range\n  \
         relay.routes[0] (\"client-\"): the client id begins with this prefix; an exact id is stronger than a prefix\n  \
         relay.routes[1] (\"\"): the empty prefix matches every client; an exact id is stronger than a prefix"
    );
    let said = table.explain("client-150").to_string();
    assert!(
        said.contains("an equally strong rule stands before it"),
        "{said}"
    );
    let said = table.explain("client-5000").to_string();
    assert!(said.contains("of 2 by the hash of the client id"), "{said}");
    assert!(said.contains("a longer prefix is stronger"), "{said}");
}

#[test]
fn a_client_without_a_route_is_told_what_comes_near() {
    let table = table(&[("client-1-1000", &["a"])]);
    assert_eq!(
        table.explain("client-1001").to_string(),
        "no route for client \"client-1001\"\n  1001 is not in relay.routes[0] (\"client-1-1000\")"
    );
    let said = table.explain("client-0005").to_string();
    assert!(said.contains("leading zeros"), "{said}");
    let said = RouteTable::default().explain("x").to_string();
    assert_eq!(said, "no route for client \"x\"\n  there are no routes");
}

/// The rules as they are documented, one after the other, without any index.
fn naive<'a>(rules: &'a [(String, bool)], client: &str) -> Option<&'a str> {
    let number = |text: &str| {
        let number: u64 = text.parse().ok()?;
        (number.to_string() == text).then_some(number)
    };
    let mut best: Option<(RuleKind, usize, &str)> = None;
    for (text, is_exact) in rules {
        let parts: Vec<&str> = text.rsplitn(3, '-').collect();
        let range = match parts[..] {
            [hi, lo, name] if !is_exact && !name.is_empty() => {
                let bounds = number(lo).zip(number(hi)).filter(|(lo, hi)| lo <= hi);
                bounds.map(|bounds| (name, bounds))
            }
            _ => None,
        };
        let found = match range {
            _ if *is_exact => (text == client).then_some((RuleKind::Exact, 0)),
            Some((name, (lo, hi))) => client
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('-'))
                .and_then(number)
                .filter(|number| (lo..=hi).contains(number))
                .map(|_| (RuleKind::Range, 0)),
            None => client
                .starts_with(text.as_str())
                .then_some((RuleKind::Prefix, 1000 - text.len())),
        };
        if let Some((kind, rank)) = found
            && best.is_none_or(|(other, worse, _)| (kind, rank) < (other, worse))
        {
            best = Some((kind, rank, text));
        }
    }
    best.map(|(.., text)| text)
}

#[test]
fn lookups_agree_with_a_naive_matcher_on_random_tables() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % end
    };
    let names = ["a", "b", "a-b", "a-1", "ä"];
    let mut matched = BTreeSet::new();
    for _ in 0..400 {
        let mut rules = Vec::new();
        for _ in 0..below(12) {
            let name = names[below(5) as usize];
            let rule = match below(4) {
                0 => (format!("{name}-{}", below(30)), true),
                1 => (
                    name[..name
                        .char_indices()
                        .nth(below(2) as usize)
                        .map_or(0, |it| it.0)]
                        .to_owned(),
                    false,
                ),
                _ => (format!("{name}-{}-{}", below(30), below(30)), false),
            };
            rules.push(rule);
        }
        let mut builder = Builder::default();
        for (index, (text, is_exact)) in rules.iter().enumerate() {
            let agent = target(&format!("ws://agent{}/", index % 3));
            let rule = match is_exact {
                true => Rule::exact(text, agent),
                false => Rule::prefix(text, vec![agent]),
            };
            builder.add(rule.unwrap()).unwrap();
        }
        let table = builder.build();
        for _ in 0..100 {
            let name = names[below(5) as usize];
            let client = match below(6) {
                0 => name.to_owned(),
                1 => format!("{name}-0{}", below(30)),
                2 => format!("{name}-{}-{}", below(30), below(30)),
                _ => format!("{name}-{}", below(35)),
            };
            let found = table.lookup(&client);
            let text = found.map(|found| table.text(found.rule));
            assert_eq!(text, naive(&rules, &client), "{client} in {rules:?}");
            let explained = table.explain(&client);
            assert_eq!(
                explained.winner.map(|winner| winner.rule),
                found.map(|found| found.rule)
            );
            assert_eq!(
                explained.agent.as_deref(),
                found.map(|found| &*found.target.url)
            );
            matched.insert(found.map(|found| table.record(found.rule.0).unwrap().kind));
        }
    }
    assert_eq!(matched.len(), 4, "every kind of rule and none");
}
