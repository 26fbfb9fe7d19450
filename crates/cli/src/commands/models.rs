//! `signvote models`: what can be trained.

use serde::Serialize;
use signvote_learn::ModelKind;

use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::ModelsFlags;
use crate::progress::grouped;
use crate::suiting::Suiting;

#[derive(Serialize)]
struct Row {
    name: String,
    /// Coordinates, for `data`.
    parameters: u64,
    /// An example of the data that it is for.
    input: String,
    /// The learning rate that a vote on it has in K rounds where none is told.
    rate: String,
    source: &'static str,
}

pub(crate) fn run(flags: &ModelsFlags) -> Result<Exit, Failure> {
    let rows: Vec<Row> = ModelKind::ALL.into_iter().map(Row::of).collect();
    if flags.json {
        let json = serde_json::to_string(&rows)
            .map_err(|error| Failure::internal("cannot write the models", &error))?;
        print(&json);
        return Ok(Exit::Success);
    }
    let mut table =
        format!("{:<12} {:>12}  {:<36}  {:<26}  source\n", "model", "parameters", "for", "rate in K rounds");
    for Row { name, parameters, input, rate, source } in &rows {
        table += &format!("{name:<12} {:>12}  {input:<36}  {rate:<26}  {source}\n", grouped(*parameters));
    }
    table += "An mlp has any hidden layers: mlp-1024-1024. Data of another size or number of classes changes the first and the \
              last layer.";
    print(&table);
    Ok(Exit::Success)
}

impl Row {
    fn of(kind: ModelKind) -> Self {
        Self {
            name: kind.to_string(),
            parameters: kind.usual().dimension() as u64,
            input: kind.usual_shape().to_string(),
            rate: Suiting::of(kind).to_string(),
            source: kind.source(),
        }
    }
}
