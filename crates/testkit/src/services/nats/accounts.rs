//! An operator, an account and users with tokens of their own, as the operator's tools of
//! NATS make them: the server knows the operator's key and nobody's password.

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// One operator with one account, besides the server's own.
#[derive(Debug)]
pub struct Accounts {
    operator: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

/// What a user may do.
#[derive(Debug, Clone, Default)]
pub struct Permissions {
    /// Subjects it may publish to.
    pub publish: Vec<String>,
    /// Subjects it may subscribe to.
    pub subscribe: Vec<String>,
    /// Whether it may answer requests besides.
    pub respond: bool,
}

impl Accounts {
    /// New keys.
    pub fn new() -> Self {
        Self {
            operator: KeyPair::new_operator(),
            account: KeyPair::new_account(),
            system: KeyPair::new_account(),
        }
    }

    /// For the server's configuration file.
    ///
    /// # Errors
    ///
    /// If a key does not sign.
    pub fn server_config(&self) -> anyhow::Result<String> {
        let operator = token(
            &self.operator,
            &self.operator.public_key(),
            "operator",
            json!({ "type": "operator", "version": 2 }),
        )?;
        let (account, system) = (self.account.public_key(), self.system.public_key());
        let unlimited = [
            "subs",
            "data",
            "payload",
            "imports",
            "exports",
            "conn",
            "leaf",
            "mem_storage",
            "disk_storage",
            "streams",
            "consumer",
        ];
        let unlimited = |without: usize| {
            let limits = &unlimited[..unlimited.len() - without];
            let mut limits: serde_json::Map<_, _> = limits
                .iter()
                .map(|limit| ((*limit).to_owned(), json!(-1)))
                .collect();
            limits.insert("wildcards".to_owned(), json!(true));
            json!({ "limits": limits, "type": "account", "version": 2 })
        };
        let preloaded = token(&self.operator, &account, "account", unlimited(0))?;
        // The system's account may not have JetStream.
        let own = token(&self.operator, &system, "system", unlimited(4))?;
        Ok(format!(
            "operator: \"{operator}\"\nsystem_account: {system}\nresolver: MEMORY\n\
             resolver_preload: {{ {account}: \"{preloaded}\", {system}: \"{own}\" }}\n"
        ))
    }

    /// The text of a credentials file of a new user.
    ///
    /// # Errors
    ///
    /// If a key does not sign.
    pub fn credentials(&self, name: &str, permissions: &Permissions) -> anyhow::Result<String> {
        let user = KeyPair::new_user();
        let mut claims = json!({
            "pub": { "allow": permissions.publish },
            "sub": { "allow": permissions.subscribe },
            "subs": -1,
            "data": -1,
            "payload": -1,
            "type": "user",
            "version": 2,
        });
        if permissions.respond {
            claims["resp"] = json!({ "max": 1, "ttl": 60_000_000_000_u64 });
        }
        let token = token(&self.account, &user.public_key(), name, claims)?;
        let seed = user.seed().context("seed of the user")?;
        Ok(format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        ))
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Self::new()
    }
}

impl Permissions {
    /// The least that a gateway needs which may create its streams. `prefix` is that of the
    /// cluster.
    pub fn gateway(prefix: &str) -> Self {
        let capitals = prefix.to_ascii_uppercase();
        Self {
            publish: vec![
                format!("{prefix}.live.>"),
                format!("{prefix}.history.>"),
                format!("{prefix}.control"),
                format!("{prefix}.sync"),
                format!("$KV.{capitals}_PRESENCE.>"),
                format!("$KV.{capitals}_STATE.>"),
                "$JS.API.INFO".to_owned(),
                "$JS.API.STREAM.INFO.>".to_owned(),
                "$JS.API.STREAM.CREATE.>".to_owned(),
                "$JS.API.STREAM.UPDATE.>".to_owned(),
                "$JS.API.DIRECT.GET.>".to_owned(),
                format!("$JS.API.STREAM.PURGE.{capitals}_HISTORY"),
                "xy.md.req.>".to_owned(),
                "xy.flags".to_owned(),
                "xy.exec.order.place.>".to_owned(),
            ],
            subscribe: vec![
                format!("{prefix}.live.>"),
                format!("{prefix}.control"),
                format!("{prefix}.state.>"),
                "xy.md.>".to_owned(),
                "xy.flags".to_owned(),
                "xy.exec.health".to_owned(),
                "xy.ref.contract.>".to_owned(),
                "xy.exec.order.result.>".to_owned(),
                "xy.ctrl.user.>".to_owned(),
                "_INBOX.>".to_owned(),
            ],
            respond: false,
        }
    }

    /// The least that an aggregator needs.
    pub fn aggregator(prefix: &str) -> Self {
        Self {
            publish: vec![
                "xy.md.tick.>".to_owned(),
                "xy.md.snapshot.>".to_owned(),
                "xy.exec.health".to_owned(),
                format!("{prefix}.sync"),
                "$JS.API.INFO".to_owned(),
                "$JS.API.STREAM.INFO.>".to_owned(),
                "$JS.API.DIRECT.GET.>".to_owned(),
            ],
            subscribe: vec![
                "xy.src.tick.>".to_owned(),
                "xy.src.replay.>".to_owned(),
                "xy.ref.contract.>".to_owned(),
                "xy.md.req.>".to_owned(),
                "_INBOX.>".to_owned(),
            ],
            respond: true,
        }
    }
}

fn token(signer: &KeyPair, subject: &str, name: &str, nats: Value) -> anyhow::Result<String> {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let claims = json!({
        "jti": subject,
        "iat": 1_700_000_000,
        "iss": signer.public_key(),
        "name": name,
        "sub": subject,
        "nats": nats,
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = signer.sign(signed.as_bytes()).context("signature")?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
