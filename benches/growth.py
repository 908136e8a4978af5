"""How figures grow: time and memory with the batch, build time with the layers; and whether `train` is as fast as
`bench train`. Used by `run --growth`."""
import programs
from workloads import WORKLOADS

BATCHES = (32, 128, 512, 1024)
LAYERS = (10, 100, 1000)
FROM_CSV = ("mlp", "mlp-wide", "mnist-cnn")  # their samples are rows of numbers
RUNS = 3


def bench(program, seconds, *options):
    command = [str(program), "bench", "train", "--json", "--seconds", str(seconds), *map(str, options)]
    return programs.event(programs.run(*command)[0], "bench", command)


def batches(program, workload, seconds):
    """Microseconds of processor time for each sample, and arena bytes, by batch size."""
    rows = [bench(program, seconds, "--threads", 1, "--batch", batch) for batch in BATCHES]
    micros = [1e6 * row["cpu_s_per_step"] / row["batch"] for row in rows]
    arena = [row["arena_bytes"] for row in rows]
    # A straight line through the first and the last size meets those between, up to rounding of buffers.
    slope = (arena[-1] - arena[0]) / (BATCHES[-1] - BATCHES[0])
    bend = max(abs(a - (arena[0] + slope * (b - BATCHES[0]))) / a for a, b in zip(arena, BATCHES))
    return {
        "workload": workload,
        "batches": BATCHES,
        "us_per_sample": [round(m, 2) for m in micros],
        "growth": round(micros[-1] / micros[0], 3),
        "arena_bytes": arena,
        "arena_bytes_per_sample": round(slope),
        "arena_off_the_line": round(bend, 6),
    }


def layers(kurc, folder):
    """Seconds of `kurc build` for chains of dense layers, the least of some runs."""
    found = []
    for count in LAYERS:
        path = folder / f"chain-{count}.yml"
        chain = "  - dense: 32\n  - activation: relu\n" * (count // 2)
        path.write_text(
            f"model:\n  - input: {{shape: [32], name: x}}\n{chain}  - dense: 1\n    name: y\n"
            "train: {optimizer: adam}\nloss: [{target: y, name: mean_squared_error}]\n",
            encoding="ascii",
        )
        runs = [programs.run(kurc, "build", path.name, "-o", "chain.bin", cwd=folder)[1] for _ in range(RUNS)]
        found.append({"layers": count, "build_s": round(min(runs), 3)})
    return found


def training(program, workload, seconds, folder):
    """Samples per second of `train` on a CSV file, without the first pass and all that surrounds training, beside those of
    `bench train`."""
    model = WORKLOADS[workload]
    rows = (100 if model.numbers() < 100 else 20) * model.batch
    data = folder / "training.csv"
    with open(data, "w", encoding="ascii") as out:
        out.write(",".join([f"x{i}" for i in range(model.numbers())] + ["labels"]) + "\n")
        for row in range(rows):
            values = [f"{(row * 31 + i * 17) % 97 / 48 - 1:.3f}" for i in range(model.numbers())]
            out.write(",".join([*values, str(row % model.classes)]) + "\n")
    speed = bench(program, seconds, "--threads", 1)["samples_per_s"]
    epochs = max(2, round(4 * seconds * speed / rows))

    def train(count):
        for old in folder.glob("growth.safetensors*"):
            old.unlink()
        command = [program, "train", data.name, "--epochs", count, "--batch-size", model.batch, "--threads", 1]
        command += ["--weights", "growth.safetensors", "--seed", 1]
        return programs.run(*map(str, command), cwd=folder)[1]

    # The least of some, in turns with the other measurement: what surrounds the epochs cancels out.
    trained, benched = 0.0, speed
    for _ in range(RUNS):
        few, many = train(1), train(1 + epochs)
        trained = max(trained, epochs * rows / max(many - few, 1e-9))
        benched = max(benched, bench(program, seconds, "--threads", 1)["samples_per_s"])
    return {
        "workload": workload,
        "train_samples_per_s": round(trained),
        "bench_samples_per_s": round(benched),
        "share": round(trained / benched, 3),
    }


def measure(args, executables, folder, say):
    """All of it; gives what goes into the results."""
    found = {"batches": [], "layers": [], "training": []}
    for workload, program in executables.items():
        say(f"growth: {workload}")
        found["batches"].append(batches(program, workload, args.seconds))
        if workload in FROM_CSV:
            found["training"].append(training(program, workload, args.seconds, folder))
    say("growth: build")
    found["layers"] = layers(args.kurc, folder)
    return found

