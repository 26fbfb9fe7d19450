//! Every kernel on every instruction set of this machine against the oracle, and the laws that votes obey.

mod apply;
mod ballot;
mod data;
mod decide;
mod isa;
mod laws;
mod lion;
mod long;
mod margins;
mod oracle;
mod pack;
#[cfg(feature = "rayon")]
mod parallel;
mod prop;
mod stream;
mod weighted;
