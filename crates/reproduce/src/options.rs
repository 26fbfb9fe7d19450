//! Improvements as options: what they gain, and what they lose.

use signvote_byzantine::simulate::{Form, Setup};
use signvote_report::{Cell, Section, Table};

use crate::lab::{Error, Lab, accuracy_cell, check, mean, settings};
use crate::liars::{lie, with_method};

pub(crate) fn options(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let base = Setup { workers: 10, ..lab.mlp() };
    let form = |name: &str| -> Result<Form, Error> { Ok(name.parse::<Form>()?) };
    let options: Vec<(&str, Setup)> = vec![
        ("plain: Signum", base.clone()),
        ("signSGD, β = 0", Setup { momentum: 0.0, ..base.clone() }),
        ("Lion form", Setup { form: form("lion")?, ..base.clone() }),
        ("vote of camps", with_method(&base, "vote-camps")?),
        ("weighted, leave-one-out", with_method(&base, "vote-weighted")?),
        ("error feedback at the server", with_method(&base, "vote-feedback")?),
        ("noise before the sign (z-sign)", Setup { form: form("z-sign-1")?, ..base.clone() }),
        ("stochastic sign (sto-sign)", Setup { form: form("sto-sign-3")?, ..base.clone() }),
        ("ternary votes", Setup { form: form("ternary-0.5")?, ..base.clone() }),
        ("4 local steps", Setup { local_steps: 4, local_eta: 0.05, epochs: base.epochs * 4, ..base.clone() }),
    ];
    let columns = ["all honest", "4 of 10 flip", "4 of 10 collude at low margins", "two classes a worker"];
    let mut header = vec!["option".to_owned()];
    header.extend(columns.map(String::from));
    let mut table = Table::new("Test accuracy, %: ten workers", header);
    let mut found: Vec<[f64; 4]> = Vec::new();
    for (name, setup) in &options {
        let cases = [
            setup.clone(),
            Setup { liars: 4, ..setup.clone() },
            Setup { liars: 4, lie: lie("low-margin")?, ..setup.clone() },
            Setup { partition: "by-label".parse()?, ..setup.clone() },
        ];
        let mut row = vec![Cell::from(*name)];
        let mut means = [0.0; 4];
        for (at, case) in cases.iter().enumerate() {
            let accuracies = lab.accuracies(case)?;
            means[at] = mean(&accuracies);
            row.push(accuracy_cell(&accuracies));
        }
        found.push(means);
        table = table.row(row);
    }
    let best = |column: usize| {
        let (at, means) = found
            .iter()
            .enumerate()
            .max_by(|a, b| a.1[column].total_cmp(&b.1[column]))
            .unwrap_or((0, &[0.0; 4]));
        (options[at].0, means[column])
    };
    let says = columns.iter().enumerate().map(|(column, title)| {
        let (name, accuracy) = best(column);
        format!("{title}: {name} ({accuracy:.1}%, plain {:.1}%)", found[0][column])
    });
    let ours = format!("Best where {}.", says.collect::<Vec<_>>().join("; "));
    let skewed = best(3);
    Ok(Section {
        title: "Options: what they gain, and what they lose".into(),
        says: "Options that help under lies are not those that help with skewed data, where signs of single workers say little about the \
               mean."
            .into(),
        ours,
        scaled: lab.scaled(),
        settings: settings(&base),
        tables: vec![table],
        checks: vec![check(
            "skewed data",
            "some option loses less than the plain vote where a worker sees two classes",
            format!("above {:.1}%", found[0][3]),
            format!("{:.1}% ({})", skewed.1, skewed.0),
            skewed.1 > found[0][3],
        )],
        ..Section::default()
    })
}
