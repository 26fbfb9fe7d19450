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
    /// Offences, and refusals that were told, since the window began.
    count: u32,
    told: u32,
    since: Duration,
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
        let offender = self.offender(now, origin, patience);
        offender.count = offender.count.saturating_add(1);
        if offender.count <= patience.offences || offender.kept_out_until.is_some_and(|until| until > now) {
            return None;
        }
        offender.count = 0;
        offender.kept_out_until = Some(now.saturating_add(patience.kept_out));
        Some(patience.kept_out)
    }

    /// Whether a refusal of this origin is worth telling: as many are told in a window as offences are forgiven.
    pub(super) fn is_news(&mut self, now: Duration, origin: &str, patience: Patience) -> bool {
        let offender = self.offender(now, origin, patience);
        offender.told = offender.told.saturating_add(1);
        offender.told <= patience.offences.saturating_add(1)
    }

    /// What is known of this origin in the present window.
    fn offender(&mut self, now: Duration, origin: &str, patience: Patience) -> &mut Offender {
        if self.offenders.len() >= MOST && !self.offenders.contains_key(origin) {
            self.forget_oldest();
        }
        let new = || Offender { count: 0, told: 0, since: now, last: now, kept_out_until: None };
        let offender = self.offenders.entry(origin.to_owned()).or_insert_with(new);
        if now.saturating_sub(offender.since) > patience.window {
            (offender.count, offender.told, offender.since) = (0, 0, now);
        }
        offender.last = now;
        offender
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
    fn refusals_are_told_as_often_as_offences_are_forgiven_and_once_more() {
        let mut origins = Origins::default();
        let told = |origins: &mut Origins, time| origins.is_news(seconds(time), "a", PATIENCE);
        assert_eq!([0, 1, 2, 3, 9].map(|time| told(&mut origins, time)), [true, true, true, false, false]);
        assert!(origins.is_news(seconds(9), "b", PATIENCE));
        assert!(told(&mut origins, 11), "another window");
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
