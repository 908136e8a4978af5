"""The fixtures' models in Keras, trained on the fixtures' files: the peer's side of accuracy.py.

usage: accuracy_peer.py SET SEED…        Prints {"seed": …, "accuracy": …} for each seed, one object a line.

Epochs, batch size and learning rate are read from fixtures/SET/Kurfile.yml. Layers and normalisation are written out
here, and a change there belongs here too. Weights start glorot uniform and biases at zero in both.
"""
import csv
import gzip
import json
import os
import pathlib
import re
import struct
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
try:
    import keras
    import numpy as np
    from keras import layers
except ImportError as error:
    sys.exit(f"accuracy_peer.py: Keras is not installed for {sys.executable} ({error}); run benches/setup")

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"


def setting(name, key, default=None):
    """A number of the Kurfile's train section; the fixtures write each such key once and plainly."""
    path = FIXTURES / name / "Kurfile.yml"
    found = re.findall(rf"^ *{key}: *([0-9.eE+-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    if len(found) > 1 or (not found and default is None):
        sys.exit(f"accuracy_peer.py: {path}: expected one line `{key}: NUMBER`, found {len(found)}")
    return float(found[0]) if found else default


def table(name):
    """Features and class numbers of both parts of a CSV set; scaled to mean 0 and deviation 1 of the training part."""
    parts = []
    for part in ("train", "test"):
        with open(FIXTURES / name / f"{name}-{part}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        parts.append((np.array([row[:-1] for row in rows], dtype="float64"), [row[-1] for row in rows]))
    classes = sorted(set(parts[0][1]))
    mean, deviation = parts[0][0].mean(0), parts[0][0].std(0)
    return [
        (((x - mean) / deviation).astype("float32"), np.array([classes.index(label) for label in labels]))
        for x, labels in parts
    ]


def idx(path):
    """An array of bytes from a gzipped IDX file."""
    with gzip.open(path) as file:
        data = file.read()
    dims = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    return np.frombuffer(data, "uint8", offset=4 + 4 * data[3]).reshape(dims)


def images():
    """Images and digits of both parts. Pixels are 0 to 1 less the mean of their own part, as Kur's supplier has it."""
    for part in ("train", "test"):
        x = idx(FIXTURES / "digits" / f"digits-{part}-images-idx3-ubyte.gz")[..., None] / 255
        y = idx(FIXTURES / "digits" / f"digits-{part}-labels-idx1-ubyte.gz")
        yield (x - x.mean()).astype("float32"), y.astype("int64")


def iris():
    return table("iris"), [layers.Dense(16, activation="tanh"), layers.Dense(3, activation="softmax")]


def breast_cancer():
    hidden = [layers.Dense(32, activation="relu"), layers.Dropout(0.2)]
    return table("breast-cancer"), [*hidden, layers.Dense(2, activation="softmax")]


def digits():
    convolution = layers.Conv2D(64, 3, padding="same", activation="relu")
    return images(), [convolution, layers.Flatten(), layers.Dense(10, activation="softmax")]


SETS = {"iris": iris, "breast-cancer": breast_cancer, "digits": digits}


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in SETS or not all(seed.isdigit() for seed in sys.argv[2:]):
        sys.exit(f"usage: accuracy_peer.py {'|'.join(SETS)} SEED…")
    name = sys.argv[1]
    epochs, batch = int(setting(name, "epochs")), int(setting(name, "batch_size"))
    rate = setting(name, "learning_rate", default=0.001)
    for seed in map(int, sys.argv[2:]):
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        ((x, y), (x_test, y_test)), model = SETS[name]()
        model = keras.Sequential([keras.Input(x.shape[1:]), *model])
        # Kur's Adam has 1e-8 where Keras 3 has 1e-7.
        adam = keras.optimizers.Adam(rate, epsilon=1e-8)
        model.compile(adam, "sparse_categorical_crossentropy")
        model.fit(x, y, epochs=epochs, batch_size=batch, shuffle=True, verbose=0)
        accuracy = float((model.predict(x_test, verbose=0).argmax(1) == y_test).mean())
        print(json.dumps({"event": "test", "seed": seed, "accuracy": accuracy}), flush=True)


if __name__ == "__main__":
    main()
