//! Native rpc methods that somebody behind the gateway answers.
//!
//! A method is bound to a subject of the bus, or to a service, by configuration; tokens of a
//! subject may be holes that the caller fills with its call's data ([`crate::template`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::settings::SettingsError;
use crate::template::{FillError, Template};

/// An rpc method that somebody on the bus answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallSettings {
    /// The method that clients call.
    pub method: String,
    /// Where the call goes: a subject in which a token may be `{name}`, taken from the
    /// member of that name of the call's data (a JSON object; letters, digits, `-` and `_`,
    /// at most 64).
    pub subject: String,
    /// The channel that a caller must be allowed to subscribe to, written likewise.
    pub channel: String,
}

/// The methods, ready to be asked.
#[derive(Debug, Default)]
pub struct Calls(BTreeMap<Box<str>, Call>);

/// One method.
#[derive(Debug)]
pub(crate) enum Call {
    /// Whoever serves a subject answers.
    Bus(BusCall),
    /// A service answers.
    Service(ServiceCall),
}

/// A method that whoever serves a subject answers.
#[derive(Debug)]
pub(crate) struct BusCall {
    subject: Template,
    channel: Template,
}

/// A method that a service answers.
#[derive(Debug)]
pub(crate) struct ServiceCall {
    /// Its name.
    pub(crate) method: Arc<str>,
    /// Callers without a user may call.
    pub(crate) anonymous: bool,
    channel: Option<Template>,
}

impl Calls {
    /// Checks the settings and compiles them.
    ///
    /// # Errors
    ///
    /// Names the entry, what is wrong with it and what is accepted.
    pub fn new(settings: &[CallSettings]) -> Result<Self, SettingsError> {
        let mut calls = BTreeMap::new();
        for (index, one) in settings.iter().enumerate() {
            let refuse = |field: &str, problem: String| SettingsError {
                key: format!("requests[{index}].{field}"),
                problem,
            };
            if one.method.is_empty() {
                return Err(refuse("method", "must not be empty".to_owned()));
            }
            let call = BusCall {
                subject: Template::new(&one.subject)
                    .map_err(|error| refuse("subject", error.to_string()))?,
                channel: Template::new(&one.channel)
                    .map_err(|error| refuse("channel", error.to_string()))?,
            };
            if calls
                .insert(one.method.as_str().into(), Call::Bus(call))
                .is_some()
            {
                let problem = format!("{:?} is bound twice", one.method);
                return Err(refuse("method", problem));
            }
        }
        Ok(Self(calls))
    }

    /// Binds one more method, to a service. `channel`, if it is not empty, is one that a
    /// caller must be allowed to subscribe to, a template as in [`CallSettings`].
    ///
    /// # Errors
    ///
    /// Names the field, what is wrong with it and what is accepted.
    pub fn bind_service(
        &mut self,
        method: &str,
        channel: &str,
        anonymous: bool,
    ) -> Result<(), SettingsError> {
        let refuse = |field: &str, problem: String| SettingsError {
            key: field.to_owned(),
            problem,
        };
        if method.is_empty() {
            return Err(refuse("method", "must not be empty".to_owned()));
        }
        let channel = match channel {
            "" => None,
            channel => {
                let template = Template::new(channel);
                Some(template.map_err(|error| refuse("channel", error.to_string()))?)
            }
        };
        let call = Call::Service(ServiceCall {
            method: method.into(),
            anonymous,
            channel,
        });
        if self.0.insert(method.into(), call).is_some() {
            return Err(refuse("method", format!("{method:?} is bound twice")));
        }
        Ok(())
    }

    pub(crate) fn get(&self, method: &str) -> Option<&Call> {
        self.0.get(method)
    }
}

impl BusCall {
    /// Where a call with this data goes, and the channel its caller must be allowed to have.
    pub(crate) fn fill(&self, data: &[u8]) -> Result<(Channel, Channel), FillError> {
        // Whoever sends something else lacks whatever is asked for.
        let chosen = serde_json::from_slice(data).unwrap_or_default();
        let filled = |template: &Template| template.fill(&chosen).map(Channel::from);
        Ok((filled(&self.subject)?, filled(&self.channel)?))
    }
}

impl ServiceCall {
    /// The channel that the caller of a call with this data must be allowed to have, if
    /// there is one.
    pub(crate) fn channel(&self, data: &[u8]) -> Result<Option<Channel>, FillError> {
        let Some(template) = &self.channel else {
            return Ok(None);
        };
        let chosen = serde_json::from_slice(data).unwrap_or_default();
        template.fill(&chosen).map(|channel| Some(channel.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(subject: &str, channel: &str) -> Result<Calls, SettingsError> {
        Calls::new(&[CallSettings {
            method: "m".into(),
            subject: subject.into(),
            channel: channel.into(),
        }])
    }

    fn bus_call(calls: &Calls) -> &BusCall {
        match calls.get("m") {
            Some(Call::Bus(call)) => call,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_method_is_bound_once_whoever_answers_it() {
        let mut calls = calls("a", "a").unwrap();
        assert_eq!(
            calls.bind_service("m", "", false).unwrap_err().key,
            "method"
        );
        assert_eq!(calls.bind_service("", "", false).unwrap_err().key, "method");
        assert_eq!(
            calls.bind_service("n", "a..b", false).unwrap_err().key,
            "channel"
        );
        calls.bind_service("n", "x.{y}", true).unwrap();
        let Some(Call::Service(call)) = calls.get("n") else {
            panic!("not bound");
        };
        assert_eq!(
            call.channel(br#"{"y":"z"}"#).unwrap().as_deref(),
            Some("x.z")
        );
        assert!(call.channel(b"{}").is_err());
    }

    #[test]
    fn the_caller_fills_both_subject_and_channel() {
        let calls = calls("xy.req.{group}", "xy.snapshot.{group}").unwrap();
        let fill = |data: &str| bus_call(&calls).fill(data.as_bytes());
        let (subject, channel) = fill(r#"{"group":"g00","more":[1]}"#).unwrap();
        assert_eq!((&*subject, &*channel), ("xy.req.g00", "xy.snapshot.g00"));
        for data in ["", "[]", "{}", r#"{"group":"a.b"}"#] {
            assert!(fill(data).is_err(), "{data}");
        }
    }

    #[test]
    fn a_method_without_choice_takes_any_data() {
        let calls = calls("xy.req", "xy.snapshot").unwrap();
        assert!(bus_call(&calls).fill(b"\x00").is_ok());
    }

    #[test]
    fn what_is_no_template_is_refused_by_key() {
        let error = calls("xy.a{b}", "a").unwrap_err();
        assert_eq!(error.key, "requests[0].subject");
        let error = calls("xy.a", "a..b").unwrap_err();
        assert_eq!(error.key, "requests[0].channel");
    }
}
