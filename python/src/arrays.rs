//! Arguments that are arrays: of NumPy, or of PyTorch on the CPU, whose memory NumPy is lent.

use numpy::{
    Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use signvote_kernels::Half;

use crate::errors::{DeviceError, DtypeError, MemoryLayoutError, ShapeError};

/// An array as NumPy's, and what its numbers are called there.
struct Lent<'py> {
    array: Bound<'py, PyAny>,
    dtype: String,
}

/// The same memory as NumPy sees it.
fn lend<'py>(what: &str, object: &Bound<'py, PyAny>) -> PyResult<Lent<'py>> {
    let py = object.py();
    let mut object = object.clone();
    let mut brain = false;
    // A tensor. NumPy has no bfloat16: its bits are lent.
    if object.hasattr("detach")? {
        let device = object.getattr("device")?;
        if device.getattr("type")?.extract::<String>()? != "cpu" {
            return Err(DeviceError::new_err(format!(
                "{what} is on {device}, and this function works in the memory of the CPU: take it there with .cpu(), \
                 or use signvote.torch, which has kernels for CUDA"
            )));
        }
        object = object.call_method0("detach")?;
        brain = object.getattr("dtype")?.str()?.to_str()? == "torch.bfloat16";
        if brain {
            object = object.call_method1("view", (py.import("torch")?.getattr("int16")?,))?;
        }
        object = object.call_method0("numpy")?;
    }
    let Ok(array) = object.cast::<PyUntypedArray>() else {
        let kind = object.get_type().name()?;
        return Err(DtypeError::new_err(format!(
            "{what}: expected an array of NumPy or a tensor, got {kind}"
        )));
    };
    let dtype = if brain { "bfloat16".to_owned() } else { array.dtype().str()?.to_string() };
    Ok(Lent { array: object, dtype })
}

impl<'py> Lent<'py> {
    fn viewed(&self, dtype: &str) -> PyResult<Bound<'py, PyAny>> {
        // A view of what does not lie in one piece fails; that is told when it is read.
        if self.dtype == dtype { Ok(self.array.clone()) } else { self.array.call_method1("view", (dtype,)) }
    }

    fn typed<T: Element>(
        &self,
        what: &str,
        numpy: &str,
        among: &[&str],
    ) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
        if !among.contains(&self.dtype.as_str()) {
            let expected = among.join(" or ");
            return Err(DtypeError::new_err(format!("{what}: expected {expected}, got {}", self.dtype)));
        }
        Ok(self.viewed(numpy)?.cast_into::<PyArrayDyn<T>>()?)
    }
}

fn in_pieces(what: &str) -> PyErr {
    MemoryLayoutError::new_err(format!(
        "{what} does not lie in one piece: pass what .contiguous() or numpy.ascontiguousarray() makes of it"
    ))
}

fn readonly<'py, T: Element>(
    what: &str,
    array: &Bound<'py, PyArrayDyn<T>>,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    if !array.is_c_contiguous() {
        return Err(in_pieces(what));
    }
    array.try_readonly().map_err(|_| {
        MemoryLayoutError::new_err(format!(
            "{what} is written to by another call at the same time, or by this one"
        ))
    })
}

fn readwrite<'py, T: Element>(
    what: &str,
    array: &Bound<'py, PyArrayDyn<T>>,
) -> PyResult<PyReadwriteArrayDyn<'py, T>> {
    if !array.is_c_contiguous() {
        return Err(in_pieces(what));
    }
    array
        .try_readwrite()
        .map_err(|error| MemoryLayoutError::new_err(format!("{what} cannot be written to: {error}")))
}

/// Values to read: f32.
pub(crate) fn floats<'py>(what: &str, object: &Bound<'py, PyAny>) -> PyResult<PyReadonlyArrayDyn<'py, f32>> {
    readonly(what, &lend(what, object)?.typed(what, "float32", &["float32"])?)
}

/// Values to write to: f32.
pub(crate) fn floats_mut<'py>(
    what: &str,
    object: &Bound<'py, PyAny>,
) -> PyResult<PyReadwriteArrayDyn<'py, f32>> {
    readwrite(what, &lend(what, object)?.typed(what, "float32", &["float32"])?)
}

/// Values of 32 or 16 bits to read.
pub(crate) enum Values<'py> {
    Single(PyReadonlyArrayDyn<'py, f32>),
    Half(Half, PyReadonlyArrayDyn<'py, u16>),
}

/// Values to read: float32, float16 or bfloat16.
pub(crate) fn values<'py>(what: &str, object: &Bound<'py, PyAny>) -> PyResult<Values<'py>> {
    const ALL: [&str; 3] = ["float32", "float16", "bfloat16"];
    let lent = lend(what, object)?;
    let half = match lent.dtype.as_str() {
        "float16" => Half::Binary16,
        "bfloat16" => Half::Bfloat16,
        _ => return Ok(Values::Single(readonly(what, &lent.typed(what, "float32", &ALL)?)?)),
    };
    Ok(Values::Half(half, readonly(what, &lent.typed(what, "uint16", &ALL)?)?))
}

const PLANE: [&str; 2] = ["uint64", "int64"];

/// A plane of bits to read: words of 64, signed or not.
pub(crate) fn plane<'py>(what: &str, object: &Bound<'py, PyAny>) -> PyResult<PyReadonlyArrayDyn<'py, u64>> {
    readonly(what, &lend(what, object)?.typed(what, "uint64", &PLANE)?)
}

/// A plane of bits to write to.
pub(crate) fn plane_mut<'py>(
    what: &str,
    object: &Bound<'py, PyAny>,
) -> PyResult<PyReadwriteArrayDyn<'py, u64>> {
    readwrite(what, &lend(what, object)?.typed(what, "uint64", &PLANE)?)
}

/// A slice of an array that lies in one piece, as all do that come from here.
pub(crate) fn slice<'a, T: Element>(array: &'a PyReadonlyArrayDyn<'_, T>) -> PyResult<&'a [T]> {
    array.as_slice().map_err(|_| in_pieces("an array"))
}

/// The same to write to.
pub(crate) fn slice_mut<'a, T: Element>(array: &'a mut PyReadwriteArrayDyn<'_, T>) -> PyResult<&'a mut [T]> {
    array.as_slice_mut().map_err(|_| in_pieces("an array"))
}

/// Checks a length.
pub(crate) fn expect(what: &str, unit: &str, expected: usize, got: usize) -> PyResult<()> {
    match expected == got {
        true => Ok(()),
        false => Err(ShapeError::new_err(format!("{what}: expected {expected} {unit}, got {got}"))),
    }
}
