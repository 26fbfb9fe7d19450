//! `signvote export`: a run's model as a file that PyTorch loads.

use signvote_learn::{BurnEngine, running_statistics};
use signvote_observe::{RunDirectory, export_tensors, load_model};

use super::eval::{Data, kind_of, model_of, statistics_of_workers};
use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::ExportFlags;
use crate::progress::grouped;

pub(crate) fn run(flags: &ExportFlags) -> Result<Exit, Failure> {
    let directory = RunDirectory::open(&flags.run_dir)?;
    let saved = load_model(&directory.evaluated())?;
    let (mut tensors, mut values) = (saved.layout.tensors().to_vec(), saved.x.clone());
    let kind = kind_of(&saved, &directory)?;
    let normalised = kind.usual().statistics();
    let mut whose = String::new();
    if normalised.is_empty() {
        // Nothing but its parameters.
    } else if let Some(statistics) = statistics_of_workers(&directory, &saved)? {
        whose = format!(", running statistics of {} workers", statistics.workers);
        values.extend(statistics.values);
        tensors.extend(normalised);
    } else {
        let split = Data::of_run(&directory, &saved, None, flags.data_dir.clone())?.load()?;
        let model = model_of(&directory, &saved, &split)?;
        values.extend(running_statistics(&mut BurnEngine::new(&model), &saved.x, &split.train)?);
        tensors.extend(model.statistics());
        whose = ", running statistics of training data".into();
    }
    export_tensors(&flags.out, &tensors, &values)?;
    print(&format!(
        "{}: {} tensors of {kind} after {} rounds{whose}",
        flags.out.display(),
        tensors.len(),
        grouped(saved.round.0)
    ));
    Ok(Exit::Success)
}
