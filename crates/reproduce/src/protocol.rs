//! Attacks on the protocol: who wants more than one vote.

use signvote_byzantine::protocol::Trick;
use signvote_report::{Section, Table};

use crate::lab::{Error, Lab, check};

pub(crate) fn protocol(lab: &mut Lab<'_>) -> Result<Section, Error> {
    lab.say("attacks on the protocol");
    let mut table =
        Table::new("What the server answers", ["the liar's trick", "the server", "its ballot counts, times"]);
    let mut checks = Vec::new();
    for trick in Trick::ALL {
        let answer = trick.attempt()?;
        let counted = answer.counted.map_or("something else".to_owned(), |times| times.to_string());
        table = table.row([trick.words().to_owned(), answer.said.clone(), counted.clone()]);
        checks.push(check(
            trick.words(),
            "no worker has more than one vote, and who tries is recorded",
            "counted at most once, with a reason",
            format!("{counted}; {}", answer.said),
            answer.counted.is_some_and(|times| times <= 1) && !answer.said.is_empty(),
        ));
    }
    Ok(Section {
        title: "One worker, one vote: attacks on the protocol".into(),
        says: "A ballot counts for the connection that it comes on, once, in the open round. What is late is dropped without offence, because networks are \
               late, too; who votes twice or ahead is put out."
            .into(),
        ours: "Five workers, the server of the network, frame by frame; the verdict of the attacked round compared with what zero, one and \
               two votes of the liar would have made of it."
            .into(),
        tables: vec![table],
        checks,
        ..Section::default()
    })
}
