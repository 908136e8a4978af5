//! Kurfiles of recurrent layers and CTC, for comparisons of compiled code with the interpreter. Labels and lengths of CTC
//! are known by their names.

/// Makes labels and lengths of drawn numbers; says whether the name is that of such data. Every sample has five frames
/// and at most two labels, so that each has a path, also behind a stride of 2.
pub(crate) fn draw(name: &str, data: &mut [f32]) -> bool {
    let below: f32 = match name {
        "labels" => 4.0,
        "lengths" => 3.0,
        "frames" => {
            data.fill(5.0);
            return true;
        }
        _ => return false,
    };
    data.iter_mut().for_each(|x| *x = (x.abs() * below).floor());
    true
}

/// Kurfiles by name.
pub(crate) const CASES: &[(&str, &str)] = &[
    (
        "recurrent cells",
        "
model:
  - {input: {shape: [5, 3]}, name: x}
  - recurrent: {size: 7}
  - recurrent: {size: 17, type: lstm, outer_activation: tanh}
  - recurrent: {size: 1, cell: torch}
  - {recurrent: {size: 33, type: lstm, cell: torch}, inputs: x, name: a}
  - {recurrent: {size: 16, cell: torch, sequence: no}, inputs: ..recurrent.1, name: b}
  - {recurrent: {size: 3, type: lstm, sequence: no}, inputs: a, name: c}
  - {recurrent: {size: 5, sequence: no, outer_activation: softsign}, inputs: ..recurrent.2, name: d}
  - {merge: concat, inputs: [b, c, d]}
  - {dense: 3, name: y}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "both directions of a variable sequence",
        "
model:
  - {input: {shape: [null, 4]}, name: x}
  - recurrent: {size: 6, bidirectional: yes, merge: concat, outer_activation: elu}
  - recurrent: {size: 5, type: lstm, bidirectional: yes, merge: add, outer_activation: selu}
  - recurrent: {size: 5, cell: torch, bidirectional: yes, merge: multiply}
  - recurrent: {size: 4, bidirectional: yes, outer_activation: softplus}
  - {recurrent: {size: 8, type: lstm, bidirectional: yes, merge: concat, sequence: no, outer_activation: sigmoid}, name: a}
  - {recurrent: {size: 8, bidirectional: yes, sequence: no, outer_activation: hard_sigmoid}, inputs: ..recurrent.3}
  - {merge: add, inputs: [a, ..recurrent.4]}
  - dense: 3
  - activation: softmax
  - output: y
loss: [{target: y, name: categorical_crossentropy}]
",
    ),
    (
        "simple recurrent units",
        "
model:
  - {input: {shape: [null, 6]}, name: x}
  - recurrent: {size: 6, type: sru}
  - recurrent: {size: 6, type: sru, bidirectional: yes, merge: concat}
  - recurrent: {size: 3, type: sru, bidirectional: yes, outer_activation: tanh}
  - recurrent: {size: 7, type: sru, sequence: no}
  - {dense: 2, name: y}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "recurrent layers inside and again",
        "
model:
  - {input: {shape: [3, 4, 5]}, name: x}
  - parallel: {apply: [{recurrent: {size: 5, sequence: no, bidirectional: yes, merge: average}, name: inner}]}
  - {recurrent: {size: 5, type: lstm}, name: one}
  - {reuse: one, name: two}
  - flatten:
  - {dense: 2, name: y}
loss: [{target: y, name: mean_squared_error}]
",
    ),
    (
        "losses of sequences",
        "
model:
  - {input: {shape: [null, 4]}, name: x}
  - {dense: 17, name: trunk}
  - {dense: 3, name: squares, sink: yes}
  - {dense: 1, inputs: trunk, name: sizes, sink: yes}
  - {dense: 5, inputs: trunk, name: bounded, sink: yes}
  - {dense: 2, inputs: trunk}
  - {activation: sigmoid, name: answers, sink: yes}
  - {dense: 2, inputs: trunk}
  - {activation: hard_sigmoid, name: clipped, sink: yes}
  - {dense: 3, inputs: trunk}
  - {activation: sigmoid, name: shares}
loss:
  - {target: squares, name: mean_squared_error}
  - {target: sizes, name: mean_absolute_error, weight: 0.5}
  - {target: bounded, name: huber, delta: 0.2}
  - {target: answers, name: binary_crossentropy, class_weights: [1, 3]}
  - {target: clipped, name: binary_crossentropy}
  - {target: shares, name: categorical_crossentropy}
",
    ),
    (
        "classes of steps behind a stride",
        "
model:
  - {input: {shape: [null, 3]}, name: x}
  - {convolution: {kernels: 6, size: 3, strides: 2}}
  - recurrent: {size: 7}
  - dense: 4
  - activation: softmax
  - output: y
train: {optimizer: {name: adam, accumulate: 1, clip: {norm: 0.5}}}
loss: [{target: y, name: categorical_crossentropy, label_smoothing: 0.1, metrics: [f1]}]
",
    ),
    (
        "ctc behind a stride",
        "
model:
  - {input: {shape: [null, 3]}, name: x}
  - {convolution: {kernels: 6, size: 3, strides: 2}, name: c}
  - activation: relu
  - recurrent: {size: 6, outer_activation: tanh}
  - parallel: {apply: [{dense: 5}]}
  - activation: softmax
  - output: asr
loss:
  - {target: asr, name: ctc, relative_to: x, input_length: frames, output: labels, output_length: lengths, variant: loss_scale}
",
    ),
    (
        "ctc of raw scores",
        "
model:
  - {input: {shape: [7, 3]}, name: x}
  - dense: 5
  - output: asr
loss:
  - {target: asr, name: ctc, input_length: frames, output: labels, output_length: lengths, variant: [warp], weight: 2}
",
    ),
];
