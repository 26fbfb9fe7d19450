//! Many runs from one file: every combination of lists of settings.

use std::collections::BTreeSet;

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{Lie, Method, Setup};
use crate::Error;

/// The runs that a file asks for.
///
/// Keys at the top are settings of every run. Each `[[grid]]` has settings of its own, where a list stands for each of its values:
/// all combinations are run, the last key fastest, the grids one after the other. What is asked for twice is run once; where nobody lies,
/// it does not matter how.
///
/// ```
/// # use signvote_byzantine::simulate::grid;
/// let runs = grid("workers = 15\n[[grid]]\nliars = [0, 4]\nlie = [\"sign-flip\", \"random-sign\"]").unwrap();
/// assert_eq!(runs.len(), 3);
/// assert_eq!(runs[2].workers, 15);
/// ```
///
/// # Errors
/// If the text is not TOML, or a key or value is none of a [`Setup`]; the error names it.
pub fn grid(text: &str) -> Result<Vec<Setup>, Error> {
    let mut base: Table = text.parse().map_err(|error: toml::de::Error| bad(error.message()))?;
    let grids = match base.remove("grid") {
        None => vec![Table::new()],
        Some(Value::Array(grids)) => grids
            .into_iter()
            .map(|grid| match grid {
                Value::Table(table) => Ok(table),
                other => Err(bad(&format!("[[grid]] is a table, not {other}"))),
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(bad(&format!("grid: write [[grid]], got {other}"))),
    };
    let (mut runs, mut seen) = (Vec::new(), BTreeSet::new());
    for grid in grids {
        for settings in combinations(&grid) {
            let mut table = base.clone();
            table.extend(settings);
            let setup = Setup::deserialize(Value::Table(table)).map_err(|error| bad(error.message()))?;
            let setup = plain(setup);
            setup.check()?;
            if seen.insert(key(&setup)) {
                runs.push(setup);
            }
        }
    }
    Ok(runs)
}

/// What tells two runs apart: all settings in one line, without those that do not matter in this run.
pub fn key(setup: &Setup) -> String {
    // A set-up consists of numbers and names, which have a form in TOML.
    toml::to_string(&plain(setup.clone())).unwrap_or_default().trim_end().replace('\n', "; ")
}

/// The same run without what does not matter in it.
fn plain(mut setup: Setup) -> Setup {
    if setup.liars == 0 {
        setup.lie = Lie::SignFlip { scale: 1.0 };
    }
    setup.told = match setup.method {
        Method::Rule(_) => Some(setup.told()),
        _ => None,
    };
    setup
}

/// Every combination of the values of lists, the last key fastest.
fn combinations(grid: &Table) -> Vec<Table> {
    grid.iter().fold(vec![Table::new()], |before, (key, value)| {
        let values = match value {
            Value::Array(values) => values.clone(),
            one => vec![one.clone()],
        };
        let with = |table: &Table| {
            let table = table.clone();
            values
                .iter()
                .map(move |value| {
                    let mut table = table.clone();
                    table.insert(key.clone(), value.clone());
                    table
                })
                .collect::<Vec<_>>()
        };
        before.iter().flat_map(with).collect()
    })
}

fn bad(what: &str) -> Error {
    Error::misuse("grid", "settings of runs", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_run_once() {
        let runs = grid(
            "workers = 9\nepochs = 2\n\
             [[grid]]\nmethod = [\"vote\", \"vote-camps\"]\nliars = [0, 2]\nseed = [1, 2]\n\
             [[grid]]\nmethod = \"vote\"\nliars = [2, 4]\n",
        )
        .unwrap();
        // Eight and two, one of which is the same as before.
        assert_eq!(runs.len(), 9);
        assert!(runs.iter().all(|run| run.workers == 9 && run.epochs == 2));
        assert_eq!((runs[8].method, runs[8].liars), (Method::Vote, 4));
    }

    #[test]
    fn what_does_not_matter_does_not_tell_runs_apart() {
        let one = Setup::default();
        let other = Setup { lie: Lie::Mimic, told: Some(3), ..one.clone() };
        assert_eq!(key(&one), key(&other));
        let lying = |lie| key(&Setup { liars: 2, lie, ..one.clone() });
        assert_ne!(lying(Lie::Mimic), lying(Lie::Alie));
        let rule = |told| key(&Setup { method: "median".parse().unwrap(), told, ..one.clone() });
        assert_ne!(rule(Some(1)), rule(Some(2)));
        assert_eq!(rule(Some(0)), rule(None), "nobody lies, which is what it is told");
    }

    #[test]
    fn without_a_grid_it_is_one_run() {
        assert_eq!(grid("").unwrap(), [Setup::default()]);
    }

    #[test]
    fn what_is_no_setting_is_named() {
        for (text, part) in [
            ("wokers = 7", "wokers"),
            ("[[grid]]\nlie = [\"sign-flop\"]", "sign-flop"),
            ("[[grid]]\nliars = [7]", "fewer than the 7 workers"),
            ("grid = 3", "write [[grid]]"),
            ("workers = ", "grid"),
        ] {
            let error = grid(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
