//! The paper's figure: with 15 machines, 80 epochs of ResNet-50 on ImageNet took about 25% less time by majority vote than by SGD
//! over NCCL (Bernstein et al., section 4 and figure 6: AWS p3.2xlarge, one V100 each, 10 Gb/s, batches of 128, the server on
//! one of the machines).
//!
//! The paper gives times as bars, so its inputs are taken from elsewhere, each with its source. Work of the processors is left
//! out: packing, counting and the step ran on the GPU, and what copies to the host and Gloo cost there nobody reports.

use serde::Serialize;

use super::{Cluster, Compute, Costs, System, step};
use crate::Rate;

/// What the paper reports: so much less time, as a share.
pub const REPORTED: f64 = 0.25;

/// The machines.
pub const HOSTS: u32 = 15;
/// Parameters of ResNet-50: 25,557,032, as torchvision has it.
pub const DIM: f64 = 25_557_032.0;
/// Images in a worker's batch.
pub const BATCH: f64 = 128.0;
/// Images a second of ResNet-50 in fp32 on one V100 of 16 GB, forward and backward: NVIDIA's DeepLearningExamples,
/// PyTorch/Classification/ConvNets/resnet50v1.5, "DGX-1 16GB", 1 GPU. (v1.5 is some 5% slower than v1, by the same page, and
/// the paper's PyTorch of 2018 slower than that of 2021.)
pub const IMAGES_PER_SECOND: f64 = 367.0;
/// The backward pass's share: two of three equal parts, as it computes two products where the forward pass computes one.
pub const BACKWARD_SHARE: f64 = 2.0 / 3.0;
/// What p3.2xlarge has at most, "up to 10 Gb/s" by AWS.
const RATE: Rate = Rate::TEN_GBIT;

/// A way to look at it, and what it comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Case {
    /// What is compared, and under which assumption.
    pub assumption: &'static str,
    /// A step of SGD.
    pub dense_ms: f64,
    /// A step of the vote.
    pub vote_ms: f64,
    /// 1 − vote / dense: so much less time.
    pub saved: f64,
}

/// What the model says about the paper's experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paper {
    /// As reported: 0.25.
    pub reported: f64,
    /// Forward and backward.
    pub compute_ms: f64,
    /// By assumption; the first is what the paper's code does.
    pub cases: Vec<Case>,
    /// The share of the link that NCCL must have reached for the first case to come to what is reported.
    pub efficiency_for_reported: f64,
}

/// Predicts the paper's experiment.
///
/// What its code does (`Signum_SGD.py`, `SGD_distribute.step`): both ways exchange in the optimiser's step, after the backward
/// pass, so nothing overlaps. SGD is one all-reduce. The vote is two things one after the other: the server takes 14 ballots,
/// one worker's after the other's, and then broadcasts the verdict, which Gloo does as a tree: ⌈log₂ 15⌉ = 4 times a verdict on
/// the server's link. Links are taken to carry their full rate, for both.
#[must_use]
pub fn predict() -> Paper {
    let rate = RATE;
    let cluster = Cluster::of_links(HOSTS, rate);
    let compute = Compute { seconds: BATCH / IMAGES_PER_SECOND, backward_share: BACKWARD_SHARE };
    let of = |system| step(system, DIM, &cluster, &Costs::NONE, compute);
    let (dense, central, sharded) = (of(System::RingFp32), of(System::Central), of(System::Sharded));
    let ballot = rate.seconds(DIM / 8.0);
    let gathered = f64::from(HOSTS - 1) * ballot;
    let as_published = compute.seconds + gathered + f64::from(HOSTS).log2().ceil() * ballot;
    let case = |assumption, dense: f64, vote: f64| Case {
        assumption,
        dense_ms: dense * 1e3,
        vote_ms: vote * 1e3,
        saved: 1.0 - vote / dense,
    };
    let all_reduce = as_published / (1.0 - REPORTED) - compute.seconds;
    Paper {
        reported: REPORTED,
        compute_ms: compute.seconds * 1e3,
        cases: vec![
            case(
                "the paper's code: nothing overlaps, ballots, then a tree of verdicts",
                dense.after_s,
                as_published,
            ),
            case("central and streamed, verdicts while ballots come", dense.after_s, central.after_s),
            case("sharded", dense.after_s, sharded.after_s),
            case(
                "sharded, and SGD by DDP: all-reduce under the backward pass",
                dense.under_s,
                sharded.after_s,
            ),
            case("sharded, both under the backward pass", dense.under_s, sharded.under_s),
        ],
        efficiency_for_reported: dense.exchange.limit_s / all_reduce,
    }
}
