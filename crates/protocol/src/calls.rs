//! Native rpc methods that somebody on the bus answers.
//!
//! A method is bound to a subject by configuration; tokens of it may be holes that the
//! caller fills with its call's data ([`crate::template`]).

use std::collections::BTreeMap;

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
pub(crate) struct Call {
    subject: Template,
    channel: Template,
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
            let call = Call {
                subject: Template::new(&one.subject)
                    .map_err(|error| refuse("subject", error.to_string()))?,
                channel: Template::new(&one.channel)
                    .map_err(|error| refuse("channel", error.to_string()))?,
            };
            if calls.insert(one.method.as_str().into(), call).is_some() {
                let problem = format!("{:?} is bound twice", one.method);
                return Err(refuse("method", problem));
            }
        }
        Ok(Self(calls))
    }

    pub(crate) fn get(&self, method: &str) -> Option<&Call> {
        self.0.get(method)
    }
}

impl Call {
    /// Where a call with this data goes, and the channel its caller must be allowed to have.
    pub(crate) fn fill(&self, data: &[u8]) -> Result<(Channel, Channel), FillError> {
        // Whoever sends something else lacks whatever is asked for.
        let chosen = serde_json::from_slice(data).unwrap_or_default();
        let filled = |template: &Template| template.fill(&chosen).map(Channel::from);
        Ok((filled(&self.subject)?, filled(&self.channel)?))
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

    #[test]
    fn the_caller_fills_both_subject_and_channel() {
        let calls = calls("xy.req.{group}", "xy.snapshot.{group}").unwrap();
        let fill = |data: &str| calls.get("m").unwrap().fill(data.as_bytes());
        let (subject, channel) = fill(r#"{"group":"g00","more":[1]}"#).unwrap();
        assert_eq!((&*subject, &*channel), ("xy.req.g00", "xy.snapshot.g00"));
        for data in ["", "[]", "{}", r#"{"group":"a.b"}"#] {
            assert!(fill(data).is_err(), "{data}");
        }
    }

    #[test]
    fn a_method_without_choice_takes_any_data() {
        let calls = calls("xy.req", "xy.snapshot").unwrap();
        assert!(calls.get("m").unwrap().fill(b"\x00").is_ok());
    }

    #[test]
    fn what_is_no_template_is_refused_by_key() {
        let error = calls("xy.a{b}", "a").unwrap_err();
        assert_eq!(error.key, "requests[0].subject");
        let error = calls("xy.a", "a..b").unwrap_err();
        assert_eq!(error.key, "requests[0].channel");
    }
}
