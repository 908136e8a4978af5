"""Runs kurc, the executables it makes and the peers, and reads what they say. Used by accuracy.py and run."""
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent


class Failed(Exception):
    """A program did not do what the benchmark needs; the message says which and how."""


def events(text, command=()):
    """The JSON objects of a program's output, one a line."""
    found = []
    for line in text.splitlines():
        if line.strip():
            try:
                found.append(json.loads(line))
            except ValueError:
                raise Failed(f"{show(command)}: expected a JSON object a line, got: {line[:200]}") from None
    return found


def event(text, name, command=()):
    """The last object called `name` of a program's output."""
    matching = [found for found in events(text, command) if found.get("event") == name]
    if not matching:
        raise Failed(f"{show(command)}: no {name!r} event in its output")
    return matching[-1]


def number(found, key, command=()):
    """A number of an event."""
    if not isinstance(found.get(key), (int, float)):
        raise Failed(f"{show(command)}: its {found.get('event')!r} event has no number {key!r}")
    return found[key]


def show(command):
    return " ".join(str(word) for word in command)


def run(*command, cwd=None):
    """Runs a program to its end; gives its output, its seconds and, for those that run long enough to be seen, its
    peak memory in MB.

    The memory is read from /proc while the program runs, because the figure of wait4 begins at the size of the
    process that started it, which for Python is more than a small program ever needs.
    """
    start = time.perf_counter()
    try:
        process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise Failed(f"cannot run {command[0]}: {error.strerror}") from None
    peak = None
    while True:
        try:
            out, errors = process.communicate(timeout=0.05)
            break
        except subprocess.TimeoutExpired:
            peak = peak_rss_mb(process.pid) or peak
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        raise Failed(f"{show(command)}: exit code {process.returncode}\n{errors.strip() or out.strip()}")
    return out, seconds, peak


def peak_rss_mb(pid):
    """Peak memory of a running process in MB; None when it has just ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM"):
                    return round(int(line.split()[1]) / 1024, 1)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


def kurc_path(path):
    """The full path of kurc, checked; programs run in other folders."""
    path = pathlib.Path(path).resolve()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise Failed(f"--kurc {path}: no such program; build it with `cargo build --release --workspace`")
    return path


def peers_python(path):
    """The Python that has the frameworks: the one named, else benches/.venv, else this one."""
    if path:
        return path
    made = HERE / ".venv" / "bin" / "python"
    return str(made) if made.exists() else sys.executable
