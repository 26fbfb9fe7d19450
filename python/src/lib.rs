//! The native half of the Python package: kernels on arrays that lie in Python's memory, and a client.
//!
//! What takes long is done without the interpreter's lock, on slices of arrays that `numpy` has lent: nothing is copied.

mod arrays;
mod client;
mod errors;
mod kernels;

#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use super::client::{Client, Step, Terms};
    #[pymodule_export]
    use super::errors::{
        DeviceError, DtypeError, IdentityError, IncompatibleError, LostError, MalformedError,
        MemoryLayoutError, MisbehavedError, MisuseError, RefusedError, ShapeError, SignvoteError,
        UntrustedError,
    };
    #[pymodule_export]
    use super::kernels::{apply, coins, decide, digest, lion_pack, momentum_pack, pack, unpack, words};

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "what Python calls it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
