//! Which workers are set apart: a rule that a person can check.

use crate::snapshot::Rule;

/// Agreement may always differ by this much: batches do.
const FLOOR: f64 = 0.04;
/// So many times the median distance from the median.
const SPREADS: f64 = 4.0;
/// Below so many workers a median says nothing.
const FEWEST: usize = 3;

/// The rule over these workers' agreements.
///
/// The limit is m − max(0.04, 4·s), where m is the median agreement and s the median distance from it. While those who lie are fewer
/// than half, both medians are those of honest workers, whatever the liars do. Of an even number m is the upper median and s the
/// lower one, so that of four workers two liars are still seen.
pub(crate) fn rule(agreements: &[Option<f64>]) -> Rule {
    let known: Vec<f64> = agreements.iter().flatten().copied().collect();
    if known.len() < FEWEST {
        let words = format!("No worker is set apart before {FEWEST} have voted.");
        return Rule { median: None, limit: None, words };
    }
    let median = of_sorted(known.clone(), known.len() / 2);
    let distances = known.iter().map(|agreement| (agreement - median).abs());
    let spread = of_sorted(distances.collect(), (known.len() - 1) / 2);
    let limit = median - FLOOR.max(SPREADS * spread);
    let words = format!(
        "The median worker agrees with the verdict in {:.1}% of its votes. Set apart is who agrees in less than {:.1}%: that is \
         more than {:.1} points below, the larger of 4 points and 4 times the median distance from the median. Such a worker lies, \
         is broken, or has data unlike the others'.",
        100.0 * median,
        100.0 * limit,
        100.0 * (median - limit)
    );
    Rule { median: Some(median), limit: Some(limit), words }
}

fn of_sorted(mut values: Vec<f64>, at: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[at]
}

/// What is said of one worker.
pub(crate) fn verdict(rule: &Rule, agreement: Option<f64>) -> (bool, String) {
    let (Some(agreement), Some(median), Some(limit)) = (agreement, rule.median, rule.limit) else {
        return (false, String::new());
    };
    if agreement >= limit {
        return (false, "votes like the others".into());
    }
    let how = if agreement < 0.5 {
        "votes against the verdict more often than with it"
    } else {
        "agrees much less than the others"
    };
    let (own, points) = (100.0 * agreement, 100.0 * (median - agreement));
    (true, format!("{how}: {own:.1}%, {points:.1} points below the median worker"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(agreements: &[f64]) -> Vec<usize> {
        let agreements: Vec<_> = agreements.iter().copied().map(Some).collect();
        let rule = rule(&agreements);
        (0..agreements.len()).filter(|&at| verdict(&rule, agreements[at]).0).collect()
    }

    #[test]
    fn liars_below_half_are_set_apart_and_honest_workers_are_not() {
        assert_eq!(apart(&[0.56, 0.563, 0.558, 0.691, 0.688, 0.693, 0.69]), [0, 1, 2]);
        assert_eq!(apart(&[0.5, 0.5, 0.67, 0.68]), [0, 1], "half of an even number");
        assert_eq!(apart(&[0.673, 0.667, 0.675, 0.676, 0.669, 0.669, 0.668]), [0; 0]);
        assert_eq!(apart(&[0.2, 0.9]), [0; 0], "a median of two says nothing");
    }

    #[test]
    fn workers_whose_data_differ_are_not_all_set_apart() {
        let skewed: Vec<f64> = (0..10).map(|at| 0.55 + 0.012 * f64::from(at)).collect();
        assert_eq!(apart(&skewed), [0; 0]);
    }

    #[test]
    fn it_is_said_in_words() {
        let rule = rule(&[0.4, 0.56, 0.69, 0.7, 0.69, 0.71, 0.7].map(Some));
        assert!(rule.words.contains("median worker agrees with the verdict in 69.0%"), "{}", rule.words);
        assert_eq!(
            verdict(&rule, Some(0.4)).1,
            "votes against the verdict more often than with it: 40.0%, 29.0 points below the median worker"
        );
        assert!(verdict(&rule, Some(0.56)).1.starts_with("agrees much less than the others: 56.0%"));
        assert_eq!(verdict(&rule, Some(0.69)), (false, "votes like the others".into()));
        assert_eq!(verdict(&rule, None), (false, String::new()));
    }
}
