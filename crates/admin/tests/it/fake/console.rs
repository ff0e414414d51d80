//! The gateway as the console sees it, from a script.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use admin::control::{
    Console, FlagChange, FlagRefusal, FlagState, FlagValue, FlagsChanged, Overview,
};

/// Flags that are kept nowhere; one called `unwanted` can't be.
#[derive(Clone, Default)]
pub(crate) struct FakeConsole {
    flags: Arc<Mutex<FlagState>>,
    looked: Arc<Mutex<u64>>,
}

impl Console for FakeConsole {
    async fn overview(&self) -> Overview {
        let mut looked = self.looked.lock().unwrap();
        *looked += 1;
        Overview {
            node: "n".to_owned(),
            messages_out: *looked,
            ..Overview::default()
        }
    }

    fn flags(&self) -> Option<FlagState> {
        Some(self.flags.lock().unwrap().clone())
    }

    async fn change_flags(
        &self,
        change: FlagChange,
        expected: Option<u64>,
    ) -> Result<FlagsChanged, FlagRefusal> {
        let mut state = self.flags.lock().unwrap();
        if expected.is_some_and(|expected| expected != state.version) {
            return Err(FlagRefusal::Changed(state.clone()));
        }
        let wanted: BTreeMap<String, Option<FlagValue>> = match change {
            FlagChange::Replace(flags) => {
                state.flags.clear();
                flags
                    .into_iter()
                    .map(|(name, flag)| (name, Some(flag)))
                    .collect()
            }
            FlagChange::Merge(flags) => flags,
        };
        let mut differences = Vec::new();
        for (name, flag) in wanted {
            if name == "unwanted" {
                return Err(FlagRefusal::Invalid("nobody wants it".to_owned()));
            }
            differences.push(format!("{name}={flag:?}"));
            match flag {
                Some(flag) => state.flags.insert(name, flag),
                None => state.flags.remove(&name),
            };
        }
        state.version += 1;
        Ok(FlagsChanged {
            state: state.clone(),
            differences,
        })
    }
}
