"""The models whose speed is compared, described once for every framework.

A layer is a tuple: ("dense", units), ("conv", kernels, size) over pictures, keeping their size, ("conv1d", kernels,
size, stride) over steps without padding, ("pool", size), ("norm",) for batch normalisation, ("relu",), ("flatten",),
("dropout", rate), ("gru" or "lstm", units, whether all states are kept). The last layer gives logits. The same models
as Kurfiles are in kurfiles/; a change here belongs there too.
"""
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Workload:
    shape: tuple  # of one sample, channels last
    classes: int
    batch: int
    layers: tuple
    labels: int = 0  # of one sample, for CTC with the last class as blank; 0: one class a sample

    def numbers(self):
        """Numbers in one sample."""
        return prod(self.shape)

    def frames(self):
        """Steps that are left for the loss."""
        steps = self.shape[0]
        for kind, *sizes in self.layers:
            if kind == "conv1d":
                steps = (steps - sizes[1]) // sizes[2] + 1
        return steps


def _mlp(*hidden, classes):
    layers = []
    for units in hidden:
        layers += [("dense", units), ("relu",)]
    return (*layers, ("dense", classes))


def _conv(kernels):
    return (("conv", kernels, 3), ("relu",))


def _block(kernels):
    return (*(("conv", kernels, 3), ("norm",), ("relu",)) * 2, ("pool", 2))


def _rnn(kind):
    keep = ((kind, 128, True), ("norm",))
    return (*keep, *keep, (kind, 128, False), ("dense", 30))


LEARNING_RATE = 1e-3  # of Adam, in every workload

WORKLOADS = {
    "mlp": Workload((28,), 2, 256, _mlp(256, 256, 256, classes=2)),
    "mlp-wide": Workload((784,), 10, 128, _mlp(512, 256, classes=10)),
    "mnist-cnn": Workload((28, 28, 1), 10, 32, (*_conv(64), ("flatten",), ("dense", 10))),
    "cifar-cnn": Workload((32, 32, 3), 10, 32, (*_conv(64), *_conv(32), ("flatten",), ("dense", 10))),
    "vgg": Workload(
        (32, 32, 3), 10, 64,
        (*_block(32), *_block(64), ("flatten",), ("dense", 128), ("relu",), ("dropout", 0.5), ("dense", 10)),
    ),
    "char-gru": Workload((30, 30), 30, 32, _rnn("gru")),
    "char-lstm": Workload((30, 30), 30, 32, _rnn("lstm")),
    "speech": Workload(
        (400, 80), 29, 16,
        (("conv1d", 256, 11, 2), ("relu",), ("norm",), *(("gru", 256, True), ("norm",)) * 3, ("dense", 29)),
        labels=30,
    ),
}

# What is measured: the step, and the batch size (None: the workload's own).
MODES = {"train": ("train", None), "infer": ("infer", 32), "latency": ("infer", 1)}
