//! Accuracy under workers that lie: figure 4, Krum, and rules beside each other.

use signvote_byzantine::simulate::{Lie, Method, Setup};
use signvote_report::{Axis, Cell, Kind, Plot, Point, Reference, Section, Series, Table};

use crate::lab::{Error, Lab, accuracy_cell, check, mean, settings};

/// η of SGD with momentum at the server, beside the vote's: the best of a few for the mlp.
pub(crate) const DENSE_ETA: f64 = 0.05;

pub(crate) fn method(name: &str) -> Result<Method, Error> {
    Ok(name.parse::<Method>()?)
}

pub(crate) fn lie(name: &str) -> Result<Lie, Error> {
    Ok(name.parse::<Lie>()?)
}

/// The same set-up with another method, at the rate that belongs to it.
pub(crate) fn with_method(setup: &Setup, name: &str) -> Result<Setup, Error> {
    let method = method(name)?;
    let eta = if method.is_vote() { setup.eta } else { DENSE_ETA };
    Ok(Setup { method, eta, ..setup.clone() })
}

pub(crate) fn figure_4(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let base = lab.mlp();
    let mut plot = Plot::new(
        "inverting",
        "Seven workers, some of which invert",
        Kind::Lines,
        Axis::linear("fraction inverting, %"),
        Axis::linear("test accuracy, %").between(0.0, 100.0),
    )
    .marked(Reference::vertical(50.0, "half"));
    let mut found: Vec<Vec<f64>> = Vec::new();
    for eta in [base.eta, base.eta / 3.0] {
        let mut points = Vec::new();
        for liars in 0..=4 {
            let accuracies = lab.accuracies(&Setup { liars, eta, ..base.clone() })?;
            points.push(Point::of_seeds(100.0 * f64::from(liars) / 7.0, &accuracies));
            found.push(accuracies);
        }
        plot = plot.with(Series::new(format!("η = {eta:.1e}"), points));
    }
    let at = |index: usize| mean(&found[index]);
    let shown: Vec<String> = (0..5).map(|index| format!("{:.1}", at(index))).collect();
    Ok(Section {
        title: "Figure 4: accuracy against the fraction of adversaries".into(),
        says: "The vote learns with three of seven workers inverting their signs, a little worse with each; with four of seven it learns \
               the opposite."
            .into(),
        paper: Some("ResNet-50 on ImageNet, 7 machines: learns up to 43% (3 of 7); slightly unstable there, cured by a lower rate.".into()),
        ours: format!("{}% with 0, 1, 2, 3, 4 of 7; at 3 with a third of the rate {:.1}%.", shown.join(", "), at(8)),
        scaled: lab.scaled(),
        settings: settings(&base),
        plots: vec![plot],
        checks: vec![
            check(
                "learning at 43%",
                "the vote learns with 3 of 7 inverting",
                "at least 70%",
                format!("{:.1}%", at(3)),
                at(3) >= 70.0,
            ),
            check(
                "graceful",
                "every adversary costs a little, none ruins it",
                "each at most 8 points",
                shown[..4].join(", "),
                (0..3).all(|index| at(index) - at(index + 1) <= 8.0),
            ),
            check("past half", "with 4 of 7 inverting it learns the opposite", "below 20%", format!("{:.1}%", at(4)), at(4) < 20.0),
        ],
        ..Section::default()
    })
}

pub(crate) fn krum(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let base = Setup { told: Some(2), ..lab.mlp() };
    let methods = ["vote", "multi-krum", "krum", "mean"];
    let mut plots = Vec::new();
    let mut found: Vec<(String, f64)> = Vec::new();
    for (id, title, lie_name) in [
        ("inverting", "Inverting", "sign-flip"),
        ("random", "Random signs", "random-sign"),
        ("colluding", "Colluding: all send −mean of the honest", "omniscient"),
    ] {
        let x = Axis::linear("adversaries of 7");
        let mut plot =
            Plot::new(id, title, Kind::Lines, x, Axis::linear("test accuracy, %").between(0.0, 100.0))
                .marked(Reference::vertical(2.0, "f that Krum is told"));
        for name in methods {
            let mut points = Vec::new();
            for liars in 0..=3 {
                let setup = Setup { liars, lie: lie(lie_name)?, ..with_method(&base, name)? };
                let accuracies = lab.accuracies(&setup)?;
                found.push((format!("{lie_name} {name} {liars}"), mean(&accuracies)));
                points.push(Point::of_seeds(f64::from(liars), &accuracies));
            }
            plot = plot.with(Series::new(name, points));
        }
        plots.push(plot);
    }
    let at =
        |key: &str| found.iter().find(|(known, _)| known == key).map_or(f64::NAN, |(_, accuracy)| *accuracy);
    let (inside, past) = (at("omniscient multi-krum 2"), at("omniscient multi-krum 3"));
    let vote = at("omniscient vote 3");
    Ok(Section {
        title: "Krum, told of f = 2, beside the vote".into(),
        says: "Multi-Krum keeps out who is far off as long as there are no more than it is told of. Past that, three who send the same are \
               each other's nearest neighbours, and it takes their side; the vote degrades by a few points."
            .into(),
        paper: Some("ResNet-18 on CIFAR-10, M = 7, f = 2: Multi-Krum collapses past f, the vote degrades gracefully.".into()),
        ours: format!(
            "Three colluders: Multi-Krum {past:.1}% (two: {inside:.1}%), vote {vote:.1}%. Three inverting: Multi-Krum {:.1}%, Krum {:.1}%, vote \
             {:.1}%.",
            at("sign-flip multi-krum 3"),
            at("sign-flip krum 3"),
            at("sign-flip vote 3")
        ),
        scaled: lab.scaled(),
        settings: settings(&base),
        plots,
        checks: vec![
            check(
                "Krum past f",
                "Multi-Krum collapses past the f that it is told",
                format!("20 points below {inside:.1}%"),
                format!("{past:.1}%"),
                past <= inside - 20.0,
            ),
            check(
                "the vote at 3 of 7",
                "the vote degrades gracefully where Multi-Krum collapses",
                format!("above {past:.1}%, at least 70%"),
                format!("{vote:.1}%"),
                vote > past && vote >= 70.0,
            ),
        ],
        ..Section::default()
    })
}

/// Workers of the comparison.
const CROWD: u16 = 15;

pub(crate) fn robustness(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let base = Setup { workers: CROWD, ..lab.mlp() };
    let counts: &[u16] = lab.either(&[0, 4, 7], &[0, 2, 4, 6, 7]);
    let methods =
        ["vote", "vote-camps", "mean", "median", "trimmed-mean", "krum", "multi-krum", "centred-clipping"];
    let lies = ["sign-flip", "random-sign", "alie", "ipm", "low-margin"];
    let mut tables = Vec::new();
    let mut found: Vec<(String, f64)> = Vec::new();
    for name in methods {
        let mut header = vec!["attack".to_owned()];
        header.extend(counts.iter().map(|count| format!("f = {count}")));
        let mut table = Table::new(name, header);
        for lie_name in lies {
            let mut row = vec![Cell::from(lie_name)];
            for &liars in counts {
                let setup = Setup { liars, lie: lie(lie_name)?, ..with_method(&base, name)? };
                // What a rule can stand is as much as it is told.
                let told = match setup.method {
                    Method::Rule(rule) => usize::from(liars).min(rule.bound(usize::from(CROWD)).0),
                    _ => usize::from(liars),
                };
                let accuracies = lab.accuracies(&Setup { told: Some(told), ..setup })?;
                found.push((format!("{name} {lie_name} {liars}"), mean(&accuracies)));
                row.push(accuracy_cell(&accuracies));
            }
            table = table.row(row);
        }
        tables.push(table);
    }
    let at = |key: String| {
        found.iter().find(|(known, _)| *known == key).map_or(f64::NAN, |(_, accuracy)| *accuracy)
    };
    let clean = at("vote sign-flip 0".into());
    let mut worst_blind = ("", f64::NEG_INFINITY);
    for name in Lie::NAMES {
        let setup = Setup { liars: 4, lie: lie(name)?, ..base.clone() };
        if setup.lie.is_blind() {
            let cost = clean - mean(&lab.accuracies(&setup)?);
            worst_blind = if cost > worst_blind.1 { (name, cost) } else { worst_blind };
        }
    }
    let random = clean - at("vote random-sign 7".into());
    let camps = clean - at("vote-camps sign-flip 7".into());
    let low = at("vote low-margin 7".into()) - at("vote-camps low-margin 7".into());
    // Honest for about half the run, so that whoever learns from it has learnt to trust.
    let echo = lie(lab.either("echo-then-flip-50", "echo-then-flip-100"))?;
    let mut under_echo = |name: &str| -> Result<f64, Error> {
        Ok(mean(&lab.accuracies(&Setup { liars: 7, lie: echo, ..with_method(&base, name)? })?))
    };
    let echoed = under_echo("vote")? - under_echo("vote-camps")?;
    // Which loses least where seven lie, by what was found.
    let best = |lie_name: &str| {
        let of = |name: &&str| at(format!("{name} {lie_name} 7"));
        methods.into_iter().max_by(|a, b| of(a).total_cmp(&of(b))).map_or("none", |name| name)
    };
    let winners: Vec<String> =
        lies.iter().map(|lie_name| format!("{lie_name}: {}", best(lie_name))).collect();
    Ok(Section {
        title: "Fifteen workers: rules beside each other under attacks".into(),
        says: format!("The most accurate where seven of fifteen lie, by attack: {}.", winners.join("; ")),
        paper: None,
        ours: format!(
            "Clean {clean:.1}%. At f = 7: flipping costs the vote {:.1} points, the vote of camps {camps:.1}.",
            clean - at("vote sign-flip 7".into())
        ),
        scaled: lab.scaled(),
        settings: settings(&base),
        tables,
        checks: vec![
            check(
                "blind attacks at f = 4",
                "the plain vote with momentum stays within 4 points under every blind attack of 4 of 15",
                "at most 4",
                format!("{:.1} ({})", worst_blind.1, worst_blind.0),
                worst_blind.1 <= 4.0,
            ),
            check(
                "random signs at f = 7",
                "random signs of 7 of 15 cost at most 1.5 points",
                "at most 1.5",
                format!("{random:.1}"),
                random <= 1.5,
            ),
            check(
                "camps under flipping at f = 7",
                "one option stays within 3 points under flipping of 7 of 15",
                "at most 3",
                format!("{camps:.1}"),
                camps <= 3.0,
            ),
            check(
                "camps under colluders at f = 7",
                "and is at most 1 point worse than the plain vote under low-margin colluders",
                "at most 1",
                format!("{low:.1}"),
                low <= 1.0,
            ),
            check(
                "camps under echo-then-flip at f = 7",
                "and under liars who were honest for half the run",
                "at most 1",
                format!("{echoed:.1}"),
                echoed <= 1.0,
            ),
        ],
        ..Section::default()
    })
}
