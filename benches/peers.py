"""Runs one workload in one framework and reports its speed: the peers' side of `run`.

usage: peers.py FRAMEWORK WORKLOAD [--threads N] [--modes train,infer,latency] [--seconds S] [--serve]

One JSON object a line on stdout: {"event": "first_step"} when the first step of the first mode has ended, so that
whoever started the process can take the time; {"event": "ready"} after a second of warm-up of each mode; then
{"event": "window", "samples_per_s": …, "cpu_s_per_step": …, "rss_mb": …} for each measured window. Alone it measures
five windows of S seconds for each mode; with --serve one for each line "MODE SECONDS" on stdin, so that several
processes can take turns.

A training step is forward, loss, backward and Adam in f32 on one batch that is already in memory; inference is forward.
Every step waits for its result.
"""
import argparse
import copy
import json
import os
import sys
import time

from workloads import LEARNING_RATE, MODES, WORKLOADS

WINDOWS = 5


def jax_steps(workload, threads):
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    from functools import partial

    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    glorot = nn.initializers.glorot_uniform()

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            for kind, *sizes in workload.layers:
                if kind == "dense":
                    x = nn.Dense(sizes[0], kernel_init=glorot)(x)
                elif kind == "conv":
                    x = nn.Conv(sizes[0], (sizes[1], sizes[1]), kernel_init=glorot)(x)
                elif kind == "conv1d":
                    kernels, size, stride = sizes
                    x = nn.Conv(kernels, (size,), strides=(stride,), padding="VALID", kernel_init=glorot)(x)
                elif kind == "pool":
                    x = nn.max_pool(x, (sizes[0],) * 2, (sizes[0],) * 2)
                elif kind == "norm":
                    x = nn.BatchNorm(use_running_average=not train)(x)
                elif kind == "relu":
                    x = nn.relu(x)
                elif kind == "flatten":
                    x = x.reshape(x.shape[0], -1)
                elif kind == "dropout":
                    x = nn.Dropout(sizes[0], deterministic=not train)(x)
                else:
                    cell = nn.GRUCell if kind == "gru" else nn.OptimizedLSTMCell
                    x = nn.RNN(cell(sizes[0]))(x)
                    x = x if sizes[1] else x[:, -1]
            return x

    net, key = Net(), jax.random.PRNGKey(0)

    def state(x):
        found = net.init({"params": key, "dropout": key}, x, False)
        return found["params"], found.get("batch_stats", {})

    def train(x, y):
        x, y = jnp.asarray(x), jnp.asarray(y)
        params, stats = state(x)
        adam = optax.adam(LEARNING_RATE)
        kept = [params, stats, adam.init(params), key]

        def loss(params, stats, key):
            variables = {"params": params, "batch_stats": stats}
            o, new = net.apply(variables, x, True, mutable=["batch_stats"], rngs={"dropout": key})
            if workload.labels:
                real = jnp.zeros(o.shape[:2]), y, jnp.zeros(y.shape)
                value = optax.ctc_loss(o, *real, blank_id=workload.classes - 1).mean()
            else:
                value = optax.softmax_cross_entropy_with_integer_labels(o, y).mean()
            return value, new.get("batch_stats", {})

        # Donated buffers are updated in place, as the other frameworks do.
        @partial(jax.jit, donate_argnums=(0, 1, 2))
        def update(params, stats, moments, key):
            key, use = jax.random.split(key)
            (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(params, stats, use)
            changes, moments = adam.update(gradients, moments)
            return optax.apply_updates(params, changes), stats, moments, key, value

        def step():
            *kept[:], value = update(*kept)
            return float(value)

        return step

    def infer(x):
        x = jnp.asarray(x)
        params, stats = state(x)
        forward = jax.jit(lambda x: net.apply({"params": params, "batch_stats": stats}, x, False))
        return lambda: forward(x).block_until_ready()

    return train, infer


def keras_steps(workload, threads, xla=False):
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    layers = keras.layers
    kinds = {
        "dense": layers.Dense,
        "conv": lambda kernels, size: layers.Conv2D(kernels, size, padding="same"),
        "conv1d": lambda kernels, size, stride: layers.Conv1D(kernels, size, strides=stride),
        "pool": layers.MaxPool2D,
        "norm": layers.BatchNormalization,
        "relu": layers.ReLU,
        "flatten": layers.Flatten,
        "dropout": layers.Dropout,
        "gru": lambda units, keep: layers.GRU(units, return_sequences=keep),
        "lstm": lambda units, keep: layers.LSTM(units, return_sequences=keep),
    }
    model = keras.Sequential([keras.Input(workload.shape)] + [kinds[kind](*sizes) for kind, *sizes in workload.layers])

    def train(x, y):
        adam = keras.optimizers.Adam(LEARNING_RATE)
        adam.build(model.trainable_variables)
        x, y = tf.constant(x), tf.constant(y)

        def loss(logits):
            if not workload.labels:
                return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
            labels, frames = tf.fill([len(x)], workload.labels), tf.fill([len(x)], workload.frames())
            each = tf.nn.ctc_loss(
                y, logits, labels, frames, logits_time_major=False, blank_index=workload.classes - 1
            )
            return tf.reduce_mean(each)

        @tf.function(jit_compile=xla)
        def update():
            with tf.GradientTape() as tape:
                value = loss(model(x, training=True))
            gradients = tape.gradient(value, model.trainable_variables)
            adam.apply_gradients(zip(gradients, model.trainable_variables))
            return value

        return lambda: float(update())

    def infer(x):
        x = tf.constant(x)
        forward = tf.function(lambda x: model(x, training=False), jit_compile=xla)
        return lambda: forward(x).numpy()

    return train, infer


def torch_steps(workload, threads, compiled=False):
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.set_flush_denormal(True)

    class Steps(nn.Module):
        """A layer of torch that has the channels on the second axis, over `[n, steps, channels]`."""

        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x.transpose(1, 2)).transpose(1, 2)

    class Rnn(nn.Module):
        def __init__(self, kind, inputs, units, keep):
            super().__init__()
            self.layer = (nn.GRU if kind == "gru" else nn.LSTM)(inputs, units, batch_first=True)
            self.keep = keep

        def forward(self, x):
            states = self.layer(x)[0]
            return states if self.keep else states[:, -1]

    image = len(workload.shape) == 3
    # Pictures are [n, channels, height, width] here.
    shape = (1, workload.shape[2], *workload.shape[:2]) if image else (1, *workload.shape)
    plain = {"relu": nn.ReLU, "flatten": nn.Flatten, "pool": nn.MaxPool2d, "dropout": nn.Dropout}
    layers = []
    with torch.no_grad():
        for kind, *sizes in workload.layers:
            channels = shape[1] if image and len(shape) == 4 else shape[-1]
            if kind == "dense":
                layer = nn.Linear(channels, sizes[0])
            elif kind == "conv":
                layer = nn.Conv2d(channels, sizes[0], sizes[1], padding=sizes[1] // 2)
            elif kind == "conv1d":
                layer = Steps(nn.Conv1d(channels, *sizes[:2], stride=sizes[2]))
            elif kind == "norm":
                layer = nn.BatchNorm2d(channels) if image else Steps(nn.BatchNorm1d(channels))
            elif kind in ("gru", "lstm"):
                layer = Rnn(kind, channels, *sizes)
            else:
                layer = plain[kind](*sizes)
            layer.eval()
            shape = layer(torch.zeros(shape)).shape
            layers.append(layer)
    model = nn.Sequential(*layers)
    if image:
        model = model.to(memory_format=torch.channels_last)

    def tensor(x):
        x = torch.from_numpy(x)
        return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last) if image else x

    def train(x, y):
        x, y = tensor(x), torch.from_numpy(y).long()
        model.train()
        adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
        frames, labels = torch.full((len(x),), workload.frames()), torch.full((len(x),), workload.labels)

        def loss():
            o = model(x)
            if not workload.labels:
                return nn.functional.cross_entropy(o, y)
            o = nn.functional.log_softmax(o, -1).transpose(0, 1)
            return nn.functional.ctc_loss(o, y, frames, labels, blank=workload.classes - 1)

        forward = torch.compile(loss) if compiled else loss

        def step():
            adam.zero_grad(set_to_none=True)
            value = forward()
            value.backward()
            adam.step()
            return value.item()

        return step

    def infer(x):
        x = tensor(x)
        frozen = copy.deepcopy(model).eval()
        forward = torch.compile(frozen) if compiled else frozen

        def step():
            with torch.inference_mode():
                return forward(x)

        return step

    return train, infer


FRAMEWORKS = {
    "jax": jax_steps,
    "keras": keras_steps,
    "keras-xla": lambda *a: keras_steps(*a, xla=True),
    "torch": torch_steps,
    "torch-compile": lambda *a: torch_steps(*a, compiled=True),
}


def say(event, **values):
    print(json.dumps({"event": event, **values}), flush=True)


def peak_rss_mb():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def rate(step, batch, seconds):
    """Samples per second over at least `seconds`, and seconds of processor time for each step."""
    steps, start, used = 0, time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - start) < seconds or steps == 0:
        step()
        steps += 1
    return steps * batch / passed, (time.process_time() - used) / steps


def window(step, batch, seconds):
    samples, cpu = rate(step, batch, seconds)
    say("window", samples_per_s=round(samples, 1), cpu_s_per_step=cpu, rss_mb=round(peak_rss_mb(), 1))


def make(mode, workload, makers, random):
    """The step of a mode, and its batch size."""
    kind, batch = MODES[mode]
    batch = batch or workload.batch
    x = random.standard_normal((batch, *workload.shape)).astype("float32")
    if kind == "infer":
        return makers[1](x), batch
    if workload.labels:
        return makers[0](x, random.integers(0, workload.classes - 1, (batch, workload.labels), "int32")), batch
    return makers[0](x, random.integers(0, workload.classes, batch, "int32")), batch


def main():
    parser = argparse.ArgumentParser(description="Speed of one framework on one workload, as JSON lines.")
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--modes", default="train", help=f"of {', '.join(MODES)} (default: train)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a window (default: 1)")
    parser.add_argument("--serve", action="store_true", help="measure a window for each line MODE SECONDS on stdin")
    args = parser.parse_args()
    modes = args.modes.split(",")
    if any(mode not in MODES for mode in modes):
        parser.error(f"--modes: of {', '.join(MODES)}")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    workload = WORKLOADS[args.workload]
    steps = {}
    try:
        import numpy as np

        makers = FRAMEWORKS[args.framework](workload, args.threads)
    except ImportError as error:
        sys.exit(f"peers.py: {args.framework} is not installed for {sys.executable} ({error}); run benches/setup")
    for mode in modes:
        steps[mode] = make(mode, workload, makers, np.random.default_rng(0))
        steps[mode][0]()
        if len(steps) == 1:
            say("first_step", rss_mb=round(peak_rss_mb(), 1))
    for step, batch in steps.values():
        rate(step, batch, 1.0)
    say("ready")
    if not args.serve:
        for step, batch in steps.values():
            for _ in range(WINDOWS):
                window(step, batch, args.seconds)
        return
    for line in sys.stdin:
        mode, seconds = line.split()
        rate(*steps[mode], 0.1)  # what the others left in the caches is not this framework's cost
        window(*steps[mode], float(seconds))


if __name__ == "__main__":
    main()
