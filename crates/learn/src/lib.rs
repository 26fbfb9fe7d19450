//! What a worker learns with: data sets, the order in which they are seen, models, and the engine that
//! turns a batch into a gradient.
//!
//! A model is a flat vector of d `f32` coordinates. Its layout ([`Model::layout`]) is PyTorch's
//! `state_dict`, whatever the engine stores inside. An [`Engine`] takes such a vector and a [`Batch`] and
//! gives the loss and the flat gradient; it keeps no parameters of its own, so that the caller's vector is
//! the only state of a replica.
//!
//! This crate refuses to reach the network (a data set that is missing is an [`Error`] that says how to get
//! it), to draw a random number that its arguments do not fix, and to name its machine learning framework
//! anywhere but in one private module. No input makes it panic unless the item says so under `# Panics`.
//!
//! Main types: [`Dataset`] and [`load`], [`Sampler`], [`ModelKind`] and [`Model`], [`Engine`] with [`BurnEngine`] and
//! [`LocalEngines`], [`Caster`], which makes ballots of gradients by a [`Form`], and [`Trainer`], which votes through an
//! [`Exchange`](signvote_election::Exchange).

#![forbid(unsafe_code)]

pub mod ballot;
pub mod data;
pub mod engine;
mod error;
mod form;
mod gradient_rule;
mod loader;
pub mod model;
mod random;
mod sample;
pub mod sampler;
pub mod trainer;

pub use ballot::{Cast, Caster, Casting};
pub use data::{DataSource, Dataset, Examples, Scaling, Split, Wanted, load};
#[cfg(feature = "tch")]
pub use engine::TchEngine;
pub use engine::{
    Batch, BurnEngine, Engine, EngineKind, Inputs, LocalEngines, Loss, evaluate, running_statistics,
    set_threads,
};
pub use error::Error;
pub use form::Form;
pub use gradient_rule::GradientRule;
pub use model::{Hidden, Model, ModelKind, Shape};
pub use sample::sample_text;
pub use sampler::{Partition, Sampler, rounds_per_epoch};
pub use trainer::{Outgoing, Snapshot, Summary, Trainer};
