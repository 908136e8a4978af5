"""Trains one workload in one framework and reports its speed: the peers' side of throughput.py.

usage: peers.py FRAMEWORK WORKLOAD [--threads N] [--batch N] [--seconds S] [--serve]

One JSON object a line on stdout: {"event": "first_step"} when the first training step has ended, so that whoever
started the process can take the time; {"event": "ready"} after a second of warm-up; then
{"event": "window", "samples_per_s": …, "rss_mb": …} for each measured window. Alone it measures five windows of S
seconds; with --serve one for each line on stdin (a number of seconds), so that several processes can take turns.

A step is forward, loss, backward and Adam in f32 on one batch that is already in memory, and it waits for the result.
"""
import argparse
import json
import os
import sys
import time

from workloads import LEARNING_RATE, WORKLOADS

WINDOWS = 5


def jax_step(workload, threads, x, y):
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    from functools import partial

    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    kinds = {
        "dense": lambda units: nn.Dense(units, kernel_init=nn.initializers.glorot_uniform()),
        "conv": lambda kernels, size: nn.Conv(kernels, (size, size), kernel_init=nn.initializers.glorot_uniform()),
        "relu": lambda: nn.relu,
        "flatten": lambda: lambda v: v.reshape(v.shape[0], -1),
    }
    net = nn.Sequential([kinds[kind](*sizes) for kind, *sizes in workload.layers])
    x, y = jnp.asarray(x), jnp.asarray(y)
    params = net.init(jax.random.PRNGKey(0), x)
    adam = optax.adam(LEARNING_RATE)
    state = [params, adam.init(params)]

    def loss(params):
        return optax.softmax_cross_entropy_with_integer_labels(net.apply(params, x), y).mean()

    # Donated buffers are updated in place, as the other frameworks do.
    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params, moments):
        value, gradients = jax.value_and_grad(loss)(params)
        changes, moments = adam.update(gradients, moments)
        return optax.apply_updates(params, changes), moments, value

    def step():
        *state[:], value = update(*state)
        return float(value)

    return step


def keras_step(workload, threads, x, y, xla=False):
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    kinds = {
        "dense": keras.layers.Dense,
        "conv": lambda kernels, size: keras.layers.Conv2D(kernels, size, padding="same"),
        "relu": keras.layers.ReLU,
        "flatten": keras.layers.Flatten,
    }
    model = keras.Sequential([keras.Input(workload.shape)] + [kinds[kind](*sizes) for kind, *sizes in workload.layers])
    adam = keras.optimizers.Adam(LEARNING_RATE)
    adam.build(model.trainable_variables)
    x, y = tf.constant(x), tf.constant(y)

    @tf.function(jit_compile=xla)
    def update():
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            value = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        adam.apply_gradients(zip(tape.gradient(value, model.trainable_variables), model.trainable_variables))
        return value

    return lambda: float(update())


def torch_step(workload, threads, x, y, compiled=False):
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x, y = torch.from_numpy(x), torch.from_numpy(y).long()
    image = len(workload.shape) == 3
    if image:
        x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    layers, shape = [], x.shape
    with torch.no_grad():
        for kind, *sizes in workload.layers:
            if kind == "dense":
                layer = nn.Linear(shape[1], sizes[0])
            elif kind == "conv":
                layer = nn.Conv2d(shape[1], sizes[0], sizes[1], padding="same")
            else:
                layer = {"relu": nn.ReLU, "flatten": nn.Flatten}[kind]()
            shape = layer(torch.zeros(shape)).shape
            layers.append(layer)
    model = nn.Sequential(*layers)
    if image:
        model = model.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)

    def loss():
        return nn.functional.cross_entropy(model(x), y)

    if compiled:
        loss = torch.compile(loss)

    def step():
        adam.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        adam.step()
        return value.item()

    return step


FRAMEWORKS = {
    "jax": jax_step,
    "keras": keras_step,
    "keras-xla": lambda *a: keras_step(*a, xla=True),
    "torch": torch_step,
    "torch-compile": lambda *a: torch_step(*a, compiled=True),
}


def say(event, **values):
    print(json.dumps({"event": event, **values}), flush=True)


def peak_rss_mb():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def rate(step, batch, seconds):
    """Samples per second over at least `seconds`."""
    steps, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds or steps == 0:
        step()
        steps += 1
    return steps * batch / passed


def window(step, batch, seconds):
    say("window", samples_per_s=round(rate(step, batch, seconds), 1), rss_mb=round(peak_rss_mb(), 1))


def main():
    parser = argparse.ArgumentParser(description="Training speed of one framework on one workload, as JSON lines.")
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, help="default: the workload's")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a window (default: 1)")
    parser.add_argument("--serve", action="store_true", help="measure a window for each number of seconds on stdin")
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    workload = WORKLOADS[args.workload]
    batch = args.batch or workload.batch
    try:
        import numpy as np

        random = np.random.default_rng(0)
        x = random.standard_normal((batch, *workload.shape), dtype=np.float32)
        y = random.integers(0, workload.classes, batch, dtype=np.int32)
        step = FRAMEWORKS[args.framework](workload, args.threads, x, y)
    except ImportError as error:
        sys.exit(f"peers.py: {args.framework} is not installed for {sys.executable} ({error}); run benches/setup")
    step()
    say("first_step")
    rate(step, batch, 1.0)
    say("ready")
    if not args.serve:
        for _ in range(WINDOWS):
            window(step, batch, args.seconds)
        return
    for line in sys.stdin:
        rate(step, batch, 0.1)  # what the others left in the caches is not this framework's cost
        window(step, batch, float(line))


if __name__ == "__main__":
    main()
