//! How weights are updated (kur-reference 5.3), and the rules that came after Kur.

/// `train.optimizer`.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// Which rule.
    pub kind: OptimizerKind,
    /// Learning rate.
    pub learning_rate: f64,
    /// lr / (1 + decay · updates done).
    pub decay: f64,
    /// How the learning rate changes with the updates done.
    pub schedule: Schedule,
    /// Gradient clipping.
    pub clip: Clip,
    /// A column of the data that scales the learning rate of its batch.
    pub scale_rate: Option<ScaleRate>,
    /// Batches whose mean gradient makes one update; 1 updates after every batch. What is left at the end of an epoch
    /// makes an update too, with the mean of as many as there are.
    pub accumulate: u32,
}

impl Default for Optimizer {
    /// Adam with learning rate 0.001.
    fn default() -> Self {
        Optimizer {
            kind: OptimizerKind::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 },
            learning_rate: 0.001,
            decay: 0.0,
            schedule: Schedule::default(),
            clip: Clip::None,
            scale_rate: None,
            accumulate: 1,
        }
    }
}

/// The update rule of a parameter p with gradient g; t counts updates from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptimizerKind {
    /// v = μv − lr·g; p += v, or with Nesterov p += μv − lr·g.
    Sgd {
        /// μ, at least 0.
        momentum: f64,
        /// Whether to use Nesterov's form.
        nesterov: bool,
    },
    /// m = β₁m + (1−β₁)g; v = β₂v + (1−β₂)g²; p −= lr·√(1−β₂ᵗ)/(1−β₁ᵗ) · m/(√v + ε) (Kingma & Ba 2015 with Keras' ε).
    Adam {
        /// β₁.
        beta_1: f64,
        /// β₂.
        beta_2: f64,
        /// ε.
        epsilon: f64,
    },
    /// Adam with bias-corrected moments m̂ and v̂: p −= lr·(m̂/(√v̂ + ε) + λp) (Loshchilov & Hutter 2019, algorithm 2).
    AdamW {
        /// β₁.
        beta_1: f64,
        /// β₂.
        beta_2: f64,
        /// ε.
        epsilon: f64,
        /// λ.
        weight_decay: f64,
    },
    /// u = m̂/(√v̂ + ε) + λp; p −= lr·‖p‖/‖u‖·u, with the ratio 1 where either norm is 0 (You et al. 2020, algorithm 2).
    Lamb {
        /// β₁.
        beta_1: f64,
        /// β₂.
        beta_2: f64,
        /// ε.
        epsilon: f64,
        /// λ.
        weight_decay: f64,
    },
    /// p −= lr·(sign(β₁m + (1−β₁)g) + λp); m = β₂m + (1−β₂)g (Chen et al. 2023, algorithm 2).
    Lion {
        /// β₁.
        beta_1: f64,
        /// β₂.
        beta_2: f64,
        /// λ.
        weight_decay: f64,
    },
    /// a = ρa + (1−ρ)g²; p −= lr·g/(√a + ε).
    RmsProp {
        /// ρ.
        rho: f64,
        /// ε.
        epsilon: f64,
    },
    /// a = ρa + (1−ρ)g²; u = g·√(d+ε)/√(a+ε); p −= lr·u; d = ρd + (1−ρ)u² (Zeiler 2012).
    AdaDelta {
        /// ρ.
        rho: f64,
        /// ε.
        epsilon: f64,
    },
}

impl OptimizerKind {
    /// The Kurfile word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            OptimizerKind::Sgd { .. } => "sgd",
            OptimizerKind::Adam { .. } => "adam",
            OptimizerKind::AdamW { .. } => "adamw",
            OptimizerKind::Lamb { .. } => "lamb",
            OptimizerKind::Lion { .. } => "lion",
            OptimizerKind::RmsProp { .. } => "rmsprop",
            OptimizerKind::AdaDelta { .. } => "adadelta",
        }
    }
}

/// Gradient clipping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// None.
    None,
    /// Scale all gradients so that their global L2 norm is at most this.
    Norm(f64),
    /// Clamp each element to ± this.
    Abs(f64),
}

/// The learning rate of a batch is multiplied by the mean of a column over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleRate {
    /// The column.
    pub source: String,
    /// Multiply by the root of the mean instead.
    pub sqrt: bool,
}

/// The learning rate as a function of the updates done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// Updates over which the rate rises in equal steps to its full size; the curve begins behind them.
    pub warmup: u32,
    /// What happens then; `t` are the updates done since.
    pub curve: Curve,
}

/// The curve of a [`Schedule`].
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Curve {
    /// The full rate.
    #[default]
    Constant,
    /// factor^⌊t / every⌋.
    Every {
        /// Updates between two drops.
        every: u32,
        /// The factor of a drop.
        factor: f64,
    },
    /// factor^(number of places ≤ t).
    At {
        /// Updates after which the rate drops, ascending.
        at: Vec<u32>,
        /// The factor of a drop.
        factor: f64,
    },
    /// factor^(t / every).
    Exponential {
        /// Updates that take one factor.
        every: u32,
        /// The factor.
        factor: f64,
    },
    /// From 1 to `last` along half a cosine over `steps` updates (Loshchilov & Hutter 2017, equation 5).
    Cosine {
        /// Updates.
        steps: u32,
        /// The factor at the end and after it.
        last: f64,
    },
    /// From 1 to `last` along a line over `steps` updates.
    Linear {
        /// Updates.
        steps: u32,
        /// The factor at the end and after it.
        last: f64,
    },
    /// Multiplied by `factor` whenever `patience` epochs in a row did not lower the validation loss (the training loss
    /// without validation). The runtime decides that and keeps the product in the state [`PLATEAU`].
    Plateau {
        /// The factor of a drop.
        factor: f64,
        /// Epochs.
        patience: u32,
    },
}

/// Name of the scalar state that holds the learning rate's factor of [`Curve::Plateau`].
pub const PLATEAU: &str = "optimizer:plateau";

/// Name of the state that counts the batches since the last update, where several make one.
pub const BATCHES: &str = "optimizer:batches";

/// Name of the state beside [`BATCHES`] that the runtime sets for the last batch of an epoch: the update then takes
/// what there is.
pub const LAST_BATCH: &str = "optimizer:last";

/// Name of the state beside [`PLATEAU`], of two numbers: the lowest loss so far, and the epochs since it was reached;
/// -1 before the first epoch.
pub const PLATEAU_SEEN: &str = "optimizer:plateau.seen";
