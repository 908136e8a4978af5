//! kurc: an ahead-of-time compiler for Kurfiles.
//!
//! The way of a Kurfile through the compiler, one module a stage; ARCHITECTURE.md says more:
//!
//! ```text
//! frontend ─► model ─► lower ─► passes ─► lower ─► codegen ─► link
//!  values     typed    graph    graph     kernels,  machine    one
//!             layers   IR       IR        plan      code       executable
//! ```
//!
//! * [`frontend`]: text to value tree, templates
//! * [`model`]: value tree to the typed Kurfile
//! * [`ir`]: graph IR and kernel IR, their text, verifiers, interpreters
//! * [`shapes`]: output shape and parameters of every layer; pictures of the model
//! * [`lower`]: Kurfile to graph IR; graph IR to kernels and plan
//! * [`passes`]: differentiation, optimizers, simplification, fusion
//! * [`codegen`]: kernels to machine code
//! * [`link`]: stub and payload to one executable
//! * [`driver`]: these stages in order
//! * [`cli`]: the program; the only place that prints
//! * [`diag`]: what every stage reports in

pub mod cli;
pub mod codegen;
pub mod diag;
pub mod driver;
pub mod frontend;
pub mod ir;
pub mod link;
pub mod lower;
pub mod model;
pub mod passes;
pub mod shapes;
