//! Which workers are set apart: a rule that a person can check.

use crate::snapshot::Rule;

/// Agreement may always differ by this much: batches do.
const FLOOR: f64 = 0.04;
/// Below so many workers nobody is in the majority.
const FEWEST: usize = 3;

/// The rule over these workers' agreements.
///
/// Of all ranges that hold the agreements of more than half of the workers, the tightest is what *most* agree in; the limit lies below
/// it, by its own width or by [`FLOOR`], whichever is more. (The shortest half is a robust measure of place and scale: Rousseeuw
/// and Leroy 1987, "Robust Regression and Outlier Detection", section 4.3. A median with the median distance from it is worse here: with
/// three liars of seven it is the lowest honest worker.) While those who lie are fewer than half there is an honest worker in
/// every such range, and liars are in the tightest only if they are nearer to honest workers than those are to each other.
pub(crate) fn rule(agreements: &[Option<f64>]) -> Rule {
    let mut known: Vec<f64> = agreements.iter().flatten().copied().collect();
    if known.len() < FEWEST {
        let words = format!("No worker is set apart before {FEWEST} have voted.");
        return Rule { low: None, high: None, limit: None, words };
    }
    known.sort_by(f64::total_cmp);
    let most = known.len() / 2 + 1;
    let ranges = known.windows(most).map(|window| (window[0], window[most - 1]));
    // Of equally tight ones the highest.
    let tightest = ranges.min_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)).then(b.0.total_cmp(&a.0)));
    let (low, high) = tightest.unwrap_or((0.0, 1.0));
    let limit = low - FLOOR.max(high - low);
    let words = format!(
        "{most} of {} workers agree with the verdict in {:.1}% to {:.1}% of their votes: the tightest range that holds more than half \
         of them. Set apart is who agrees in less than {:.1}%: that is {:.1} points below it, its own width or 4 points, \
         whichever is more. Such a worker lies, is broken, or has data unlike the others'.",
        known.len(),
        100.0 * low,
        100.0 * high,
        100.0 * limit,
        100.0 * (low - limit)
    );
    Rule { low: Some(low), high: Some(high), limit: Some(limit), words }
}

/// What is said of one worker.
pub(crate) fn verdict(rule: &Rule, agreement: Option<f64>) -> (bool, String) {
    let (Some(agreement), Some(low), Some(high), Some(limit)) = (agreement, rule.low, rule.high, rule.limit)
    else {
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
    let [own, low, high] = [agreement, low, high].map(|share| 100.0 * share);
    (true, format!("{how}: in {own:.1}%, where most agree in {low:.1}% to {high:.1}%"))
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
        assert_eq!(
            apart(&[0.542, 0.553, 0.551, 0.681, 0.716, 0.715, 0.683]),
            [0, 1, 2],
            "measured late in a run"
        );
        assert_eq!(apart(&[0.5, 0.67, 0.68, 0.66]), [0]);
        assert_eq!(apart(&[0.673, 0.667, 0.675, 0.676, 0.669, 0.669, 0.668]), [0; 0]);
        assert_eq!(apart(&[0.2, 0.9]), [0; 0], "there is no majority of two");
    }

    #[test]
    fn workers_whose_data_differ_are_not_all_set_apart() {
        let skewed: Vec<f64> = (0..10).map(|at| 0.55 + 0.012 * f64::from(at)).collect();
        assert_eq!(apart(&skewed), [0; 0]);
    }

    #[test]
    fn it_is_said_in_words() {
        let rule = rule(&[0.4, 0.56, 0.69, 0.7, 0.69, 0.71, 0.7].map(Some));
        assert!(
            rule.words.starts_with("4 of 7 workers agree with the verdict in 69.0% to 70.0%"),
            "{}",
            rule.words
        );
        assert!(rule.words.contains("less than 65.0%: that is 4.0 points below it"), "{}", rule.words);
        assert_eq!(
            verdict(&rule, Some(0.4)).1,
            "votes against the verdict more often than with it: in 40.0%, where most agree in 69.0% to 70.0%"
        );
        assert!(verdict(&rule, Some(0.56)).1.starts_with("agrees much less than the others: in 56.0%"));
        assert_eq!(verdict(&rule, Some(0.69)), (false, "votes like the others".into()));
        assert_eq!(verdict(&rule, None), (false, String::new()));
    }
}
