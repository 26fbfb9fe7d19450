//! Models of text: which token comes next, at every step.

use super::Shape;
use super::network::{Builder, Network, Start};
use crate::Error;

fn vocabulary(shape: Shape) -> Result<usize, Error> {
    match shape {
        Shape::Tokens { vocabulary, .. } => Ok(vocabulary),
        Shape::Images { .. } => Err(Error::misuse("data for this model", "text", shape)),
    }
}

/// Quasi-recurrent layers between an embedding and a softmax that share their weight (Bradbury et al. 2017; Merity et al. 2018,
/// whose names of parameters these are). Every layer sees one step at a time and an output gate; the last gives the embedding's
/// width.
pub(super) fn qrnn(shape: Shape, embedding: usize, hidden: usize, layers: usize) -> Result<Network, Error> {
    let vocabulary = vocabulary(shape)?;
    let mut it = Builder::new(shape);
    let tied = it.embedding("encoder", vocabulary, embedding, Start::Uniform(0.1));
    for layer in 0..layers {
        it.dropout(0.1);
        let width = if layer + 1 == layers { embedding } else { hidden };
        it.linear(&format!("rnns.{layer}.linear"), 3 * width);
        it.fo_pool();
        it.cut();
    }
    it.dropout(0.1);
    it.tied(tied, Some("decoder.bias"));
    it.finish()
}

/// A decoder of GPT-2's form (Radford et al. 2019), with the names of its parameters: layer norm first, GELU, a tied softmax,
/// standard deviation 0.02 at the start, that of what is added to the residual stream divided by √(2·layers).
pub(super) fn gpt(shape: Shape, width: usize, heads: usize, layers: usize) -> Result<Network, Error> {
    let vocabulary = vocabulary(shape)?;
    let mut it = Builder::new(shape);
    let (start, zero) = (Start::Normal(0.02), Start::Constant(0.0));
    let into_stream = Start::Normal(0.02 / (2.0 * layers as f32).sqrt());
    let tied = it.embedding("wte", vocabulary, width, start);
    it.positions("wpe", start);
    for layer in 0..layers {
        let name = |what: &str| format!("h.{layer}.{what}");
        let attention = |it: &mut Builder| {
            it.layer_norm(&name("ln_1"));
            it.linear_from(&name("attn.c_attn"), 3 * width, start, zero);
            it.attention(heads);
            it.linear_from(&name("attn.c_proj"), width, into_stream, zero);
        };
        let perceptron = |it: &mut Builder| {
            it.layer_norm(&name("ln_2"));
            it.linear_from(&name("mlp.c_fc"), 4 * width, start, zero);
            it.gelu();
            it.linear_from(&name("mlp.c_proj"), width, into_stream, zero);
        };
        it.sum(attention, |_| ());
        it.sum(perceptron, |_| ());
        it.cut();
    }
    it.layer_norm("ln_f");
    it.tied(tied, None);
    it.finish()
}
