//! Levels of loss, as they are asked for and named in figures.

use std::str::FromStr;

use super::netlab::link::Loss;

/// How many packets are lost, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Level {
    pub(crate) loss: Loss,
}

impl Level {
    /// Each packet by itself.
    pub(crate) fn percent(percent: f64) -> Self {
        Self {
            loss: Loss::Independent(percent / 100.0),
        }
    }

    /// As on the command line and in figures.
    pub(crate) fn label(self) -> String {
        match self.loss {
            Loss::Independent(share) => format!("{}", (share * 1e6).round() / 1e4),
            Loss::Bursts { .. } => "bursts".to_owned(),
        }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "bursts" {
            return Ok(BURSTS);
        }
        match text.parse::<f64>() {
            Ok(percent) if (0.0..100.0).contains(&percent) => Ok(Self::percent(percent)),
            Ok(_) | Err(_) => Err("a percentage below 100 or \"bursts\" is expected".to_owned()),
        }
    }
}

/// What `bursts` stands for.
pub(crate) const BURSTS: Level = Level {
    loss: Loss::Bursts {
        share: 0.02,
        mean: 3.0,
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_named_as_it_is_asked_for() {
        for text in ["0", "0.1", "5", "10", "bursts"] {
            assert_eq!(text.parse::<Level>().unwrap().label(), text);
        }
        for text in ["", "100", "-1", "burst", "NaN"] {
            assert!(text.parse::<Level>().is_err(), "{text}");
        }
    }
}
