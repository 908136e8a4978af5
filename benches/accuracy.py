"""Test accuracy on the fixtures: kurc's executables beside equal models in Keras.

usage: accuracy.py [--kurc PATH] [--python PATH] [--seeds N] [--sets iris,breast-cancer,digits]

Each data set is trained from N seeds with the model and settings of fixtures/SET/Kurfile.yml. Prints one JSON object a
line for each data set and side, then a Markdown table. The peer's models stand in accuracy_peer.py. Ends with exit code
1 if a mean is below the floor or the two sides differ by more than 0.01. One row of iris' 30 is 0.033, so that one seed
says little.
"""
import argparse
import json
import pathlib
import shutil
import statistics
import sys
import tempfile

import programs
from programs import HERE, Failed

FIXTURES = HERE.parent / "fixtures"
FLOORS = {"iris": 0.93, "breast-cancer": 0.95, "digits": 0.95}
TOLERANCE = 0.01


def kurc_accuracies(kurc, name, seeds):
    """Trains and tests the fixture's executable once for each seed."""
    with tempfile.TemporaryDirectory(prefix="kurc-accuracy-") as folder:
        # A copy, so that weights and checkpoints stay out of the fixtures.
        folder = pathlib.Path(folder) / name
        shutil.copytree(FIXTURES / name, folder)
        program = folder / "model.bin"
        programs.run(kurc, "build", "Kurfile.yml", "-o", program.name, cwd=folder)
        found = []
        for seed in seeds:
            weights = f"seed-{seed}.weights"
            programs.run(program, "train", "--seed", str(seed), "--weights", weights, "--json", cwd=folder)
            command = [program, "test", "--weights", weights, "--json"]
            out = programs.run(*command, cwd=folder)[0]
            found.append(programs.number(programs.event(out, "test", command), "accuracy", command))
        return found


def peer_accuracies(python, name, seeds):
    command = [python, str(HERE / "accuracy_peer.py"), name, *map(str, seeds)]
    out = programs.run(*command)[0]
    return [programs.number(found, "accuracy", command) for found in programs.events(out, command)]


def report(name, side, accuracies):
    mean = statistics.fmean(accuracies)
    spread = [round(min(accuracies), 4), round(max(accuracies), 4)]
    print(json.dumps({
        "event": "accuracy", "set": name, "framework": side, "mean": round(mean, 4), "spread": spread,
        "seeds": [round(a, 4) for a in accuracies],
    }), flush=True)
    return mean


def main():
    parser = argparse.ArgumentParser(description="Test accuracy on the fixtures, kurc beside Keras.")
    parser.add_argument("--kurc", help="the compiler; without it only the peer is trained")
    parser.add_argument("--python", help="Python with Keras (default: benches/.venv, else this one)")
    parser.add_argument("--seeds", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--sets", default=",".join(FLOORS), help=f"default: {','.join(FLOORS)}")
    args = parser.parse_args()
    sets = args.sets.split(",")
    if unknown := [name for name in sets if name not in FLOORS]:
        parser.error(f"--sets: {unknown[0]!r} is not one of {', '.join(FLOORS)}")
    if args.seeds < 1:
        parser.error("--seeds must be positive")
    kurc = programs.kurc_path(args.kurc) if args.kurc else None
    python = programs.peers_python(args.python)
    seeds = range(1, args.seeds + 1)
    rows, bad = [], []
    for name in sets:
        peer = report(name, "keras", peer_accuracies(python, name, seeds))
        own = report(name, "kurc", kurc_accuracies(kurc, name, seeds)) if kurc else None
        rows.append((name, peer, own))
        for side, mean in (("keras", peer), ("kurc", own)):
            if mean is not None and mean < FLOORS[name]:
                bad.append(f"{name}: {side} has {mean:.4f}, below {FLOORS[name]}")
        if own is not None and abs(own - peer) > TOLERANCE:
            bad.append(f"{name}: kurc and keras differ by {own - peer:+.4f}")
    print(f"\nMean test accuracy over {len(seeds)} seeds\n\n| data set | at least | keras | kurc | difference |")
    print("|---|---:|---:|---:|---:|")
    for name, peer, own in rows:
        cells = ("", "") if own is None else (f"{own:.4f}", f"{own - peer:+.4f}")
        print(f"| {name} | {FLOORS[name]} | {peer:.4f} | {cells[0]} | {cells[1]} |")
    for line in bad:
        print(f"accuracy.py: {line}", file=sys.stderr)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"accuracy.py: {error}")
