"""The models whose training speed is compared, described once for every framework.

A layer is a tuple: ("dense", units), ("conv", kernels, size), ("relu",) or ("flatten",). Convolutions keep the image's
size, and the last layer gives logits. The same models as Kurfiles are in kurfiles/; a change here belongs there too.
"""
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Workload:
    shape: tuple  # of one sample, channels last
    classes: int
    batch: int
    layers: tuple

    def numbers(self):
        """Numbers in one sample."""
        return prod(self.shape)


def _mlp(*hidden, classes):
    layers = []
    for units in hidden:
        layers += [("dense", units), ("relu",)]
    return (*layers, ("dense", classes))


LEARNING_RATE = 1e-3  # of Adam, in every workload

WORKLOADS = {
    "mlp": Workload((28,), 2, 256, _mlp(256, 256, 256, classes=2)),
    "mlp-wide": Workload((784,), 10, 128, _mlp(512, 256, classes=10)),
    "mnist-cnn": Workload((28, 28, 1), 10, 32, (("conv", 64, 3), ("relu",), ("flatten",), ("dense", 10))),
}
