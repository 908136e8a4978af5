"""What takes part in a comparison: kurc's executables and the peers. Used by `run`."""
import os
import statistics
import subprocess
import tempfile
import time

import programs
from programs import HERE, Failed
from workloads import MODES, WORKLOADS


class Peer:
    """A framework in a process that measures a window whenever it is told to."""

    def __init__(self, name, python, workload, threads, modes):
        self.name = name
        self.command = [python, str(HERE / "peers.py"), name, workload, "--threads", str(threads), "--serve"]
        self.command += ["--modes", ",".join(modes)]
        self.messages = tempfile.TemporaryFile("w+")
        start = time.perf_counter()
        try:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.messages, text=True
            )
        except OSError as error:
            raise Failed(f"cannot run {python}: {error.strerror}") from None
        self.read("first_step")
        # Only the first mode begins with an empty process.
        self.first_step_s = {modes[0]: time.perf_counter() - start}
        self.rss_mb = {}
        self.modes = modes
        self.read("ready")

    def read(self, name):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.messages.seek(0)
            raise Failed(self.messages.read().strip() or f"{programs.show(self.command)}: ended early")
        return programs.event(line, name, self.command)

    def window(self, mode, seconds):
        try:
            self.process.stdin.write(f"{mode} {seconds}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; reading tells why
        found = self.read("window")
        # The first mode is the largest; a later one runs in the memory that it took.
        if mode == self.modes[0]:
            self.rss_mb[mode] = found["rss_mb"]
        return found

    def close(self):
        try:
            self.process.stdin.close()
        except (BrokenPipeError, AttributeError):
            pass
        self.process.wait()


class Kurc:
    """An executable made by kurc; each turn runs its `bench` command, which warms up by itself."""

    name = "kurc"

    def __init__(self, program, workload, threads):
        self.program, self.workload, self.threads = program, workload, threads
        self.first_step_s, self.rss_mb, self.windows = {}, {}, {}

    def window(self, mode, seconds):
        step, batch = MODES[mode]
        command = [self.program, "bench", step, "--json", "--threads", self.threads]
        command += ["--batch", batch or WORKLOADS[self.workload].batch, "--seconds", seconds]
        command = [str(word) for word in command]
        found = programs.event(programs.run(*command)[0], "bench", command)
        first = programs.number(found, "first_step_s", command)
        self.first_step_s[mode] = min(first, self.first_step_s.get(mode, first))
        self.rss_mb[mode] = max(programs.number(found, "rss_mb", command), self.rss_mb.get(mode, 0))
        programs.number(found, "samples_per_s", command)
        programs.number(found, "cpu_s_per_step", command)
        self.windows.setdefault(mode, []).append(found)
        return found

    def close(self):
        pass


def compare(args, workload, threads, program):
    """Lets all contenders take turns on one workload; gives one result for each and for each mode."""
    # Children inherit this, as they would from `taskset`.
    os.sched_setaffinity(0, sorted(args.cpus)[:threads])
    contenders, failed = [], {}
    try:
        if program:
            contenders.append(Kurc(program, workload, threads))
        for name in args.peers:
            try:
                contenders.append(Peer(name, args.python, workload, threads, args.modes))
            except Failed as error:
                if not args.keep_going:
                    raise
                failed[name] = str(error).splitlines()[-1]
        found = {(c.name, mode): [] for c in contenders for mode in args.modes}
        for mode in args.modes:
            for turn in range(args.rounds):
                shift = turn % len(contenders)
                for contender in contenders[shift:] + contenders[:shift]:
                    found[contender.name, mode].append(contender.window(mode, args.seconds))
    finally:
        for contender in contenders:
            contender.close()
        os.sched_setaffinity(0, args.cpus)
    results = []
    for mode in args.modes:
        results += summary(workload, threads, mode, contenders, {c.name: found[c.name, mode] for c in contenders})
    results += [{"workload": workload, "threads": threads, "framework": n, "failed": why} for n, why in failed.items()]
    return results


def summary(workload, threads, mode, contenders, found):
    """The results of one mode."""
    def of(name, key):
        return [window[key] for window in found[name]]

    def ratio(upper, lower):
        # Turn by turn, so that what slows a whole turn cancels out.
        each = [a / b for a, b in zip(upper, lower)]
        return {"median": round(statistics.median(each), 3), "spread": [round(min(each), 3), round(max(each), 3)]}

    peers = [c.name for c in contenders if c.name != "kurc"]
    best = max(peers, key=lambda name: statistics.median(of(name, "samples_per_s")), default=None)
    cheapest = min(peers, key=lambda name: statistics.median(of(name, "cpu_s_per_step")), default=None)
    results = []
    for contender in contenders:
        name = contender.name
        rates, costs = of(name, "samples_per_s"), of(name, "cpu_s_per_step")
        result = {
            "workload": workload,
            "threads": threads,
            "mode": mode,
            "batch": MODES[mode][1] or WORKLOADS[workload].batch,
            "framework": name,
            "samples_per_s": statistics.median(rates),
            "spread": [min(rates), max(rates)],
            "cpu_s_per_step": statistics.median(costs),
            "windows": rates,
            "best_peer": best,
            "ratio_to_best_peer": best and ratio(rates, of(best, "samples_per_s")),
            "cheapest_peer": cheapest,
            "cpu_ratio_to_cheapest_peer": cheapest and ratio(of(cheapest, "cpu_s_per_step"), costs),
            "rss_mb": contender.rss_mb.get(mode),
            "first_step_s": contender.first_step_s.get(mode),
        }
        if name == "kurc":
            lines = [window["roofline"] for window in found[name] if "roofline" in window]
            result["roofline"] = statistics.median(lines) if lines else None
            result["last_bench_event"] = found[name][-1]
        results.append(result)
    return results
