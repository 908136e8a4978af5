//! Kurfiles of single layers and their combinations, for comparisons of compiled code with the interpreter. Inputs
//! whose names begin with `index` are drawn as whole numbers below [`VOCABULARY`].

/// Rows of the tables that are looked up.
pub(crate) const VOCABULARY: f32 = 11.0;

/// Kurfiles by name.
pub(crate) const CASES: &[(&str, &str)] = &[
    (
        "merges of all kinds",
        "
model:
  - {input: {shape: [3, 7]}, name: a}
  - {input: {shape: [3, 7]}, name: b}
  - {dense: 7, inputs: a, name: c}
  - {merge: add, inputs: [a, b, c], name: sum}
  - {merge: multiply, inputs: [sum, c], name: product}
  - {merge: average, inputs: [a, product, c], name: mean}
  - {merge: {mode: concat, axis: 1}, inputs: [mean, b, c], name: long}
  - {merge: {mode: concat, axis: -1}, inputs: [long, long], name: wide}
  - {merge: {mode: add}, inputs: wide}
  - flatten:
  - {dense: 5, name: y}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "embedding, repeat, transpose",
        "
model:
  - {input: {shape: [33]}, name: index}
  - embedding: {vocab_size: 11, size: 3}
  - transpose: [1, 0]
  - {transpose: {axes: [0, 2, 1], include_batch: yes}, name: words}
  - {input: {shape: [17]}, name: x}
  - dense: 3
  - {repeat: 33, name: again}
  - {merge: multiply, inputs: [words, again]}
  - dense: 4
  - activation: softmax
  - output: y
loss: [{target: y, name: categorical_crossentropy}]
",
    ),
    (
        "parallel with everything in it",
        "
model:
  - {input: {shape: [3, 5, 7]}, name: x}
  - parallel:
      apply:
        - batch_normalization:
        - dense: 6
        - parallel:
            apply: [{dense: {size: 6, highway: yes}, name: gate}, {activation: tanh}]
        - dropout: 0.3
        - flatten:
        - {dense: 4, name: shared}
  - activation: relu
  - parallel: {apply: [{reuse: last}]}
  - {dense: 4, name: last}
  - activation: softmax
  - output: y
loss: [{target: y, name: categorical_crossentropy}]
",
    ),
    (
        "reuse of layers and loops",
        "
model:
  - {input: {shape: [8]}, name: x}
  - {reuse: later, name: early}
  - for:
      range: 2
      iterate: [{dense: 8}, {batch_normalization: }, {activation: tanh}]
    name: block
  - {dense: 8, name: later}
  - reuse: block
  - {reuse: early}
  - {merge: concat, inputs: [x, block]}
  - {dense: 3, name: y}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "highway layers",
        "
model:
  - {input: {shape: [7, 3]}, name: x}
  - convolution: {kernels: 3, size: 4, highway: yes}
  - flatten:
  - dense: {size: [21, 21], highway: yes}
  - dense: {size: 21, highway: yes, bias: -2}
  - {dense: 2, name: y}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "depthwise, channels dropped",
        "
model:
  - {input: {shape: [7, 6, 3]}, name: x}
  - convolution: {kernels: 6, size: [3, 2], strides: [2, 1], separable: yes}
  - dropout: {fraction: 0.4, independent: no}
  - convolution: {kernels: 6, size: [2, 2], border: valid, separable: yes}
  - flatten:
  - {dense: 2, name: y}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "one and three axes, even windows",
        "
model:
  - {input: {shape: [17, 2]}, name: s}
  - convolution: {kernels: 3, size: 4, strides: 2}
  - convolution: {kernels: 3, size: 2, border: valid}
  - pool: {size: 2, strides: 2, border: same}
  - {flatten: , name: flat}
  - {input: {shape: [4, 5, 3, 2]}, name: v}
  - convolution: {kernels: 3, size: [2, 2, 2], strides: [1, 2, 1]}
  - pool: {size: [2, 2, 2], type: average, border: same}
  - flatten:
  - dense: 4
  - {merge: concat, inputs: [flat, ..dense.0]}
  - {dense: 2, name: y}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "a variable number of steps",
        "
model:
  - {input: {shape: [null, 5]}, name: x}
  - convolution: {kernels: 6, size: 3}
  - activation: relu
  - {convolution: {kernels: 6, size: 4, strides: 2, border: valid}, name: shorter}
  - batch_normalization:
  - {convolution: {kernels: 6, size: 3, strides: 2}, inputs: shorter, name: half}
  - pool: {size: 2, strides: 2, type: average, border: same}
  - {pool: {size: 2, border: valid}, inputs: shorter, name: pooled}
  - {merge: {mode: concat, axis: 1}, inputs: [shorter, shorter], name: twice}
  - {dense: 6, inputs: pooled}
  - {merge: {mode: concat, axis: 1}, inputs: [..dense.0, ..dense.0]}
  - parallel: {apply: [{dense: 7}, {activation: tanh}, {dropout: 0.2}, {dense: 3}]}
  - activation: softmax
  - output: y
  - {dense: 2, inputs: half, name: z}
loss:
  - {target: y, name: categorical_crossentropy}
  - {target: z, name: mean_squared_error}
",
    ),
    (
        "attention over sequences",
        "
model:
  - {input: {shape: [7, 6]}, name: x}
  - position_embedding:
  - layer_normalization:
  - attention: {heads: 3, causal: yes}
  - attention: 2
  - layer_normalization: {epsilon: 0.001}
  - activation: gelu
  - global_pool: average
  - {dense: 3, name: y}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "causal attention over a variable number of steps",
        "
model:
  - {input: {shape: [null, 4]}, name: x}
  - attention: {heads: 2, causal: yes}
  - attention:
  - pad: {before: 1, after: 2}
  - upsample: 3
  - global_pool: max
  - {dense: 3, name: y}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "modern activations, dilation, resizing",
        "
model:
  - {input: {shape: [9, 7, 3]}, name: x}
  - convolution: {kernels: 4, size: [3, 2], dilation: [2, 3]}
  - activation: prelu
  - convolution: {kernels: 4, size: [2, 2], dilation: 3, border: valid, strides: 2}
  - pad: [1, 0]
  - upsample: [2, 1]
  - activation: leaky_relu
  - {global_pool: max, name: top}
  - dense: 17
  - activation: silu
  - dense: 9
  - activation: mish
  - dense: 9
  - activation: gelu
  - {dense: 2, name: y}
loss: [{target: y, name: mean_squared_error}]
",
    ),
];
