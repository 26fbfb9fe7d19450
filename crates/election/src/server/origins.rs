//! Who has broken rules, and how long it is kept out for that.

use std::collections::BTreeMap;
use std::time::Duration;

/// Origins that are remembered at most; the ones longest at peace are forgotten first.
const MOST: usize = 4096;

/// What repeated offences lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Offences within `window` that are forgiven.
    pub offences: u32,
    /// How long an offence counts.
    pub window: Duration,
    /// How long whoever has committed more is kept out.
    pub kept_out: Duration,
}

impl Default for Patience {
    /// 16 offences within a minute are forgiven; who commits more is kept out for a minute.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { offences: 16, window: minute, kept_out: minute }
    }
}

#[derive(Debug)]
struct Offender {
    count: u32,
    last: Duration,
    kept_out_until: Option<Duration>,
}

/// Offences by origin: an identity, or an address where there is none.
#[derive(Debug, Default)]
pub(super) struct Origins {
    offenders: BTreeMap<String, Offender>,
    /// Offences in the whole run.
    pub(super) offences: u64,
    /// Connections turned away because their origin was kept out.
    pub(super) turned_away: u64,
}

impl Origins {
    /// Counts an offence. Gives how long the origin is kept out from now on, if this was one too many.
    pub(super) fn offend(&mut self, now: Duration, origin: &str, patience: Patience) -> Option<Duration> {
        self.offences += 1;
        if self.offenders.len() >= MOST && !self.offenders.contains_key(origin) {
            self.forget_oldest();
        }
        let offender = self.offenders.entry(origin.to_owned()).or_insert(Offender {
            count: 0,
            last: now,
            kept_out_until: None,
        });
        if now.saturating_sub(offender.last) > patience.window {
            offender.count = 0;
        }
        offender.count = offender.count.saturating_add(1);
        offender.last = now;
        if offender.count <= patience.offences || offender.kept_out_until.is_some_and(|until| until > now) {
            return None;
        }
        offender.count = 0;
        offender.kept_out_until = Some(now.saturating_add(patience.kept_out));
        Some(patience.kept_out)
    }

    /// How long this origin is still kept out.
    pub(super) fn kept_out(&self, now: Duration, origin: &str) -> Option<Duration> {
        let until = self.offenders.get(origin)?.kept_out_until?;
        until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Origins that are kept out now.
    pub(super) fn count_kept_out(&self, now: Duration) -> usize {
        self.offenders.values().filter(|one| one.kept_out_until.is_some_and(|until| until > now)).count()
    }

    fn forget_oldest(&mut self) {
        let oldest = self.offenders.iter().min_by_key(|(_, offender)| offender.last);
        if let Some(origin) = oldest.map(|(origin, _)| origin.clone()) {
            self.offenders.remove(&origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { offences: 2, window: Duration::from_secs(10), kept_out: Duration::from_secs(60) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_offends_repeatedly_is_kept_out_for_a_while() {
        let mut origins = Origins::default();
        assert_eq!(origins.offend(seconds(0), "a", PATIENCE), None);
        assert_eq!(origins.offend(seconds(1), "a", PATIENCE), None);
        assert_eq!(origins.kept_out(seconds(1), "a"), None);
        assert_eq!(origins.offend(seconds(2), "a", PATIENCE), Some(seconds(60)));
        assert_eq!(origins.kept_out(seconds(3), "a"), Some(seconds(59)));
        assert_eq!(origins.kept_out(seconds(3), "b"), None);
        assert_eq!(origins.kept_out(seconds(62), "a"), None);
    }

    #[test]
    fn offences_are_forgotten_after_their_window() {
        let mut origins = Origins::default();
        for time in [0, 11, 22, 33] {
            assert_eq!(origins.offend(seconds(time), "a", PATIENCE), None);
        }
    }

    #[test]
    fn a_flood_of_origins_takes_bounded_memory() {
        let mut origins = Origins::default();
        for i in 0..10_000 {
            origins.offend(seconds(i), &format!("origin {i}"), PATIENCE);
        }
        assert!(origins.offenders.len() <= MOST);
        assert_eq!(origins.offences, 10_000);
    }
}
