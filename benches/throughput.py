"""Training throughput of kurc's executables beside other frameworks, taken in turns in one run.

usage: throughput.py [--kurc PATH] [--python PATH] [--peers jax,keras] [--workloads mlp,…] [--threads 1,2]

For each workload and number of threads every contender is started, pinned to as many CPUs as threads, and warmed up;
then all take turns, one measured window a round, so that a noisy machine is noisy for all of them. Prints Markdown
tables and writes everything to benches/results.json. Without --kurc only the peers are measured.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import programs
from programs import HERE, Failed
from workloads import WORKLOADS

BUILDS = 5  # builds and one-step runs whose times are taken; the tables show the median


class Peer:
    """A framework in a process that measures a window whenever it is told to."""

    def __init__(self, name, python, workload, threads):
        self.name = name
        self.command = [python, str(HERE / "peers.py"), name, workload, "--threads", str(threads), "--serve"]
        self.messages = tempfile.TemporaryFile("w+")
        start = time.perf_counter()
        try:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.messages, text=True
            )
        except OSError as error:
            raise Failed(f"cannot run {python}: {error.strerror}") from None
        self.read("first_step")
        self.first_step_s = time.perf_counter() - start
        self.read("ready")

    def read(self, name):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.messages.seek(0)
            raise Failed(self.messages.read().strip() or f"{programs.show(self.command)}: ended early")
        return programs.event(line, name, self.command)

    def window(self, seconds):
        try:
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; reading tells why
        found = self.read("window")
        self.rss_mb = found["rss_mb"]
        return found["samples_per_s"]

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()


class Kurc:
    """An executable made by kurc; each turn runs its `bench` command, which warms up by itself."""

    name = "kurc"

    def __init__(self, program, workload, threads):
        self.command = [str(program), "bench", "train", "--json", "--threads", str(threads)]
        self.command += ["--batch-size", str(WORKLOADS[workload].batch)]
        self.first_step_s = self.rss_mb = self.last = None

    def window(self, seconds):
        command = [*self.command, "--seconds", str(seconds)]
        out, _, peak = programs.run(*command)
        found = programs.event(out, "bench", command)
        first = programs.number(found, "first_step_s", command)
        self.first_step_s = first if self.first_step_s is None else min(first, self.first_step_s)
        self.rss_mb = max(peak or programs.number(found, "rss_mb", command), self.rss_mb or 0)
        self.last = found
        return programs.number(found, "samples_per_s", command)

    def close(self):
        pass


def compare(args, workload, threads, programs_of_kurc):
    """Lets all contenders take turns on one workload; gives one result for each."""
    # Children inherit this, as they would from `taskset`.
    os.sched_setaffinity(0, sorted(args.cpus)[:threads])
    contenders = []
    try:
        if args.kurc:
            contenders.append(Kurc(programs_of_kurc[workload], workload, threads))
        for name in args.peers:
            contenders.append(Peer(name, args.python, workload, threads))
        rates = {c.name: [] for c in contenders}
        for turn in range(args.rounds):
            shift = turn % len(contenders)
            for contender in contenders[shift:] + contenders[:shift]:
                rates[contender.name].append(contender.window(args.seconds))
    finally:
        for contender in contenders:
            contender.close()
        os.sched_setaffinity(0, args.cpus)
    best = max(args.peers, key=lambda name: statistics.median(rates[name]), default=None)
    results = []
    for contender in contenders:
        own = rates[contender.name]
        result = {
            "workload": workload,
            "threads": threads,
            "batch": WORKLOADS[workload].batch,
            "framework": contender.name,
            "samples_per_s": statistics.median(own),
            "spread": [min(own), max(own)],
            "windows": own,
            # Turn by turn, so that what slows a whole turn cancels out.
            "ratio_to_best_peer": best and round(statistics.median(a / b for a, b in zip(own, rates[best])), 3),
            "rss_mb": contender.rss_mb,
            "first_step_s": round(contender.first_step_s, 4),
        }
        if getattr(contender, "last", None):
            result["last_bench_event"] = contender.last
        results.append(result)
    return results


def build(args, workload, folder):
    """Builds a workload's executable in `folder`; gives its path and what was measured."""
    shutil.copy(HERE / "kurfiles" / f"{workload}.yml", folder)
    model = WORKLOADS[workload]
    with open(folder / "rows.csv", "w", encoding="ascii") as rows:
        rows.write(",".join([f"x{i}" for i in range(model.numbers())] + ["labels"]) + "\n")
        for row in range(model.batch):
            values = [f"{(row * 31 + i * 17) % 97 / 48 - 1:.4f}" for i in range(model.numbers())]
            rows.write(",".join([*values, str(row % model.classes)]) + "\n")
    program = folder / f"{workload}.bin"
    command = [args.kurc, "build", f"{workload}.yml", "-o", program.name]
    seconds = [programs.run(*command, cwd=folder)[1] for _ in range(BUILDS)]
    weights = folder / "weights.safetensors"
    train = [program, "train", "rows.csv", "--epochs", "1", "--batch-size", str(model.batch), "--seed", "1"]
    runs = []
    for _ in range(BUILDS):
        for old in folder.glob(f"{weights.name}*"):
            old.unlink()
        runs.append(programs.run(*train, "--weights", weights, cwd=folder)[1])
    return program, {
        "workload": workload,
        "model_bytes": program.stat().st_size,
        "build_s": round(statistics.median(seconds), 4),
        "one_step_run_s": round(statistics.median(runs), 4),
    }


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("---" if i < 1 else "---:" for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def print_results(results):
    print("\n" + table(
        ["workload", "threads", "framework", "samples/s", "lowest to highest", "ratio to best peer", "peak MB",
         "first step, s"],
        [
            [
                r["workload"], r["threads"], r["framework"], f"{r['samples_per_s']:.0f}",
                f"{r['spread'][0]:.0f} to {r['spread'][1]:.0f}",
                "" if r["ratio_to_best_peer"] is None else f"{r['ratio_to_best_peer']:.2f}",
                f"{r['rss_mb']:.0f}", f"{r['first_step_s']:.3f}",
            ]
            for r in results
        ],
    ))


def print_builds(builds):
    print("\n" + table(
        ["workload", "model.bin, bytes", "kurc build, s", "train one step from CSV and save, s"],
        [[b["workload"], b["model_bytes"], f"{b['build_s']:.3f}", f"{b['one_step_run_s']:.3f}"] for b in builds],
    ))


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        return next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())


def versions(args):
    """Versions of what is compared."""
    found = {}
    if args.kurc:
        found["kurc"] = programs.run(args.kurc, "--version")[0].strip().removeprefix("kurc ")
    wanted = ["jax", "jaxlib", "flax", "optax", "keras", "tensorflow-cpu", "tensorflow", "torch"]
    code = (
        "import json, sys, importlib.metadata as m\n"
        "there = {d.name.lower().replace('_', '-'): d.version for d in m.distributions()}\n"
        "print(json.dumps({'event': 'versions', 'python': sys.version.split()[0]}"
        " | {n: there[n] for n in sys.argv[1:] if n in there}))"
    )
    command = [args.python, "-c", code, *wanted]
    answer = programs.event(programs.run(*command)[0], "versions", command)
    return found | {name: version for name, version in answer.items() if name != "event"}


def write(path, data):
    """Writes the results to their place in one go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    new.replace(path)


def names(known):
    def parse(text):
        chosen = [name for name in text.split(",") if name]
        for name in chosen:
            if known and name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return chosen

    return parse


def arguments():
    parser = argparse.ArgumentParser(description="Training throughput of kurc beside other frameworks.")
    parser.add_argument("--kurc", help="the compiler; without it only the peers are measured")
    parser.add_argument("--python", help="Python with the frameworks (default: benches/.venv, else this one)")
    frameworks = ["jax", "keras", "keras-xla", "torch", "torch-compile"]
    parser.add_argument("--peers", type=names(frameworks), default=["jax", "keras"],
                        help=f"of {', '.join(frameworks)} (default: jax,keras)")
    parser.add_argument("--workloads", type=names(WORKLOADS), default=list(WORKLOADS), help="default: all")
    parser.add_argument("--threads", type=names(None), default=["1", "2"], help="default: 1,2")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each contender (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a window (default: 0.5)")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "results.json",
                        help="default: benches/results.json")
    args = parser.parse_args()
    args.cpus = os.sched_getaffinity(0)
    try:
        args.threads = [int(number) for number in args.threads]
    except ValueError:
        parser.error("--threads takes numbers, e.g. 1,2")
    if not all(1 <= number <= len(args.cpus) for number in args.threads):
        parser.error(f"--threads: this process may use {len(args.cpus)} CPUs")
    if args.rounds < 1 or args.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    if not args.kurc and not args.peers:
        parser.error("nothing to measure: neither --kurc nor --peers")
    args.python = programs.peers_python(args.python)
    return args


def main():
    args = arguments()
    if args.kurc:
        args.kurc = str(programs.kurc_path(args.kurc))
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: the machine is busy (load {load:.1f}); the figures will be too low", file=sys.stderr)
    data = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "cpus": len(args.cpus),
        "load_before": round(load, 2),
        "versions": versions(args),
        "rounds": args.rounds,
        "seconds": args.seconds,
        "builds": [],
        "results": [],
    }
    with tempfile.TemporaryDirectory(prefix="kurc-bench-") as folder:
        executables = {}
        if args.kurc:
            for workload in args.workloads:
                executables[workload], built = build(args, workload, pathlib.Path(folder))
                data["builds"].append(built)
        for workload in args.workloads:
            for threads in args.threads:
                print(f"{workload}, {threads} thread(s)", file=sys.stderr)
                data["results"] += compare(args, workload, threads, executables)
                write(args.output, data)
    print(f"{data['cpu']}, {data['cpus']} CPUs; " + ", ".join(f"{k} {v}" for k, v in data["versions"].items()))
    if data["builds"]:
        print_builds(data["builds"])
    print_results(data["results"])


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"throughput.py: {error}")
