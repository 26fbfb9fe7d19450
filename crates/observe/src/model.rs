//! The model file: safetensors, under PyTorch's names, so that other programs read it as well.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use signvote_election::{Layout, Round, Settings, TensorSpec, hexadecimal};

use crate::{Error, replace_file};

/// The one key of the file's metadata. Everything of ours is one JSON text under it, because safetensors
/// writes its keys in no fixed order, and equal models shall be equal files.
const KEY: &str = "signvote";

/// What the format of safetensors does not keep.
#[derive(Serialize, Deserialize)]
struct Notes {
    /// Names in the order of the flat vector; the file sorts them.
    order: Vec<String>,
    /// Rounds committed.
    round: u64,
    /// Digest of the layout; as text, as the worker's checkpoint has it. Older files have none.
    #[serde(default)]
    layout: Option<String>,
    /// Older files have none.
    #[serde(default)]
    config: RunConfig,
    settings: BTreeMap<String, String>,
}

/// The rules of the run that a model comes from, in the words of `config.toml`. All values are text: not every reader takes the
/// integers beyond 2⁵³ that a seed may be.
pub type RunConfig = BTreeMap<String, String>;

/// A model as read from its file.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedModel {
    /// Names and shapes, in the order of the vector.
    pub layout: Layout,
    /// d parameters.
    pub x: Vec<f32>,
    /// Rounds that made it.
    pub round: Round,
    /// The rules of its run, among them the seed; empty in older files.
    pub config: RunConfig,
    /// What was remembered with it: the name of the model, of its data.
    pub settings: Settings,
}

/// Writes a model, whole or not at all. Equal arguments give equal bytes.
///
/// # Errors
/// If the disk is full or refuses.
pub fn save_model(
    path: &Path,
    layout: &Layout,
    x: &[f32],
    round: Round,
    config: &RunConfig,
    settings: &Settings,
) -> Result<(), Error> {
    let malformed = |reason: String| Error::Malformed { path: path.to_owned(), reason };
    let notes = Notes {
        order: layout.tensors().iter().map(|tensor| tensor.name.clone()).collect(),
        round: round.0,
        layout: Some(hexadecimal(&layout.digest())),
        config: config.clone(),
        settings: settings.iter().map(|(key, value)| (key.into(), value.into())).collect(),
    };
    let notes = serde_json::to_string(&notes).map_err(|error| malformed(error.to_string()))?;
    write(path, layout.tensors(), x, (KEY, notes))
}

/// Writes tensors as PyTorch and other programs expect them, whole or not at all: names, shapes, and nothing of ours. `values` are
/// those of all tensors, one after the other, each in row-major order.
///
/// # Errors
/// If the disk is full or refuses, or there are fewer values than the tensors have.
pub fn export_tensors(path: &Path, tensors: &[TensorSpec], values: &[f32]) -> Result<(), Error> {
    // What the package `safetensors` writes for PyTorch, and `transformers` asks for.
    write(path, tensors, values, ("format", "pt".into()))
}

pub(crate) fn write(
    path: &Path,
    tensors: &[TensorSpec],
    values: &[f32],
    (key, note): (&str, String),
) -> Result<(), Error> {
    let malformed = |reason: String| Error::Malformed { path: path.to_owned(), reason };
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (mut views, mut rest) = (Vec::with_capacity(tensors.len()), &bytes[..]);
    for tensor in tensors {
        let length = 4 * tensor.shape.iter().product::<usize>();
        let (data, tail) = rest
            .split_at_checked(length)
            .ok_or_else(|| malformed(format!("{} has fewer values than its shape says", tensor.name)))?;
        rest = tail;
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), data);
        views.push((tensor.name.as_str(), view.map_err(|error| malformed(error.to_string()))?));
    }
    let file = safetensors::serialize(views, Some(HashMap::from([(key.to_owned(), note)])))
        .map_err(|error| malformed(error.to_string()))?;
    replace_file(path, |out| out.write_all(&file))
}

/// Reads these tensors from a file of safetensors, whoever wrote it: the values of all, one after the other. Other tensors in
/// the file are passed over.
///
/// # Errors
/// If the file is missing or torn, or a tensor is not there, has another shape, or is not of f32.
pub fn load_tensors(path: &Path, tensors: &[TensorSpec]) -> Result<Vec<f32>, Error> {
    let other = |reason: String| Error::OtherModel { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| other(format!("it is no file of safetensors: {error}")))?;
    let mut values = Vec::new();
    for TensorSpec { name, shape } in tensors {
        let view = file.tensor(name).map_err(|_| other(format!("it has no tensor {name}")))?;
        if view.shape() != shape {
            return Err(other(format!("{name} has shape {:?}, expected {shape:?}", view.shape())));
        }
        append(&mut values, name, &view).map_err(other)?;
    }
    Ok(values)
}

pub(crate) fn append(values: &mut Vec<f32>, name: &str, view: &TensorView<'_>) -> Result<(), String> {
    if view.dtype() != Dtype::F32 {
        return Err(format!("{name} is {:?}, not f32", view.dtype()));
    }
    values.extend(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    Ok(())
}

/// Reads a model that [`save_model`] wrote.
///
/// # Errors
/// If the file is missing, torn, or of another kind.
pub fn load_model(path: &Path) -> Result<SavedModel, Error> {
    let malformed = |reason: String| Error::Malformed { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| malformed(error.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| malformed(error.to_string()))?;
    let notes = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY)).ok_or_else(|| {
        malformed("its header has no \"signvote\" entry, so the order of its tensors is unknown".into())
    })?;
    let notes: Notes = serde_json::from_str(notes).map_err(|error| malformed(error.to_string()))?;
    if notes.order.len() != file.len() {
        return Err(malformed(format!("{} tensors are listed, {} are there", notes.order.len(), file.len())));
    }
    let mut tensors = Vec::new();
    let mut x = Vec::new();
    for name in notes.order {
        let view = file.tensor(&name).map_err(|error| malformed(error.to_string()))?;
        append(&mut x, &name, &view).map_err(malformed)?;
        tensors.push(TensorSpec { name, shape: view.shape().to_vec() });
    }
    let mut settings = Settings::default();
    for (key, value) in &notes.settings {
        settings.insert(key, value).map_err(|error| malformed(error.to_string()))?;
    }
    let layout = Layout::new(tensors).map_err(|error| malformed(error.to_string()))?;
    let digest = hexadecimal(&layout.digest());
    if let Some(expected) = notes.layout.filter(|it| *it != digest) {
        return Err(malformed(format!("its layout's digest should be {expected}, but is {digest}")));
    }
    Ok(SavedModel { layout, x, round: Round(notes.round), config: notes.config, settings })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> SavedModel {
        let spec = |name: &str, shape: &[usize]| TensorSpec { name: name.into(), shape: shape.into() };
        let layout = Layout::new(vec![spec("z.weight", &[2, 3]), spec("a.bias", &[2])]).unwrap();
        let mut settings = Settings::default();
        settings.insert("model", "mlp").unwrap();
        let x = vec![1.0, -0.0, f32::MIN_POSITIVE / 2.0, 3.5, f32::MAX, -7.25, 0.5, 2.0];
        let config = RunConfig::from([("seed".into(), u64::MAX.to_string())]);
        SavedModel { layout, x, round: Round(12), config, settings }
    }

    fn save(path: &Path, model: &SavedModel) {
        save_model(path, &model.layout, &model.x, model.round, &model.config, &model.settings).unwrap();
    }

    #[test]
    fn a_file_whose_layout_is_not_that_of_its_digest_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        save(&path, &example());
        let file = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let digest = hexadecimal(&example().layout.digest());
        assert!(file.contains(&digest), "{file}");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(64).position(|window| window == digest.as_bytes()).unwrap();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        std::fs::write(&path, bytes).unwrap();
        let error = load_model(&path).unwrap_err().to_string();
        assert!(error.contains("its layout's digest should be"), "{error}");
    }

    #[test]
    fn a_model_reads_back_bit_for_bit_and_in_its_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        save(&path, &example());
        let back = load_model(&path).unwrap();
        assert_eq!(back, example());
        assert_eq!(back.x[1].to_bits(), (-0.0_f32).to_bits());
    }

    #[test]
    fn equal_models_are_equal_files() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| directory.path().join(name));
        paths.iter().for_each(|path| save(path, &example()));
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
    }

    #[test]
    fn what_is_exported_is_read_by_its_names_and_shapes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("exported.safetensors");
        let SavedModel { layout, x, .. } = example();
        export_tensors(&path, layout.tensors(), &x).unwrap();
        assert_eq!(load_tensors(&path, layout.tensors()).unwrap(), x);
        let [z, a] = layout.tensors() else { panic!() };
        assert_eq!(load_tensors(&path, &[a.clone(), z.clone()]).unwrap(), [&x[6..], &x[..6]].concat());
        let refused = |name: &str, shape: &[usize]| {
            let spec = TensorSpec { name: name.into(), shape: shape.into() };
            load_tensors(&path, &[spec]).unwrap_err().to_string()
        };
        assert!(refused("b", &[1]).ends_with("it has no tensor b"));
        assert!(refused("a.bias", &[3]).ends_with("a.bias has shape [2], expected [3]"));
        assert!(export_tensors(&path, layout.tensors(), &x[1..]).is_err());
        // A model's own file is one as well; what others wrote is none of ours.
        save(&path, &example());
        assert_eq!(load_tensors(&path, layout.tensors()).unwrap(), x);
    }

    #[test]
    fn torn_and_foreign_files_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        save(&path, &example());
        let whole = std::fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() - 1], &whole[..10], b"", b"hello, this is no model"] {
            std::fs::write(&path, bytes).unwrap();
            let error = load_model(&path).unwrap_err().to_string();
            assert!(error.contains("model.safetensors"), "{error}");
        }
        assert!(load_model(&directory.path().join("none")).is_err());
    }
}
