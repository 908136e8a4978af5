"""Writes the files beside it with numpy; run it again only to add to them."""
import collections
import json
import pickle

import numpy as np


class Foreign:
    """What a pickle may hold but kurc never builds."""

    def __reduce__(self):
        return print, ("run",)


words = np.array(["a", "bc"])
ragged = [np.arange(n * 2, dtype="f4").reshape(n, 2) for n in (3, 1, 2)]
objects = np.empty(3, dtype=object)
for i, part in enumerate(ragged):
    objects[i] = part
data = collections.OrderedDict(
    x=np.array([[0, 1, 2], [3, 4, 5]], dtype="<f4"),
    big=np.asfortranarray(np.array([[0, 1], [2, 3], [4, 5]], dtype=">f8")),
    i=np.array([-1, 2, 2**40]),
    u=np.array([0, 255], dtype="u1"),
    b=np.array([True, False]),
    h=np.array([0.5, -2], dtype="f2"),
    nested=[[1, 2.5], [True, -4]],
    pair=((1, 2), (3, 4), (5, 6)),
    scalars=[np.float32(1.5), np.int64(-2), np.bool_(True)],
    ragged=ragged,
    lengths=[[1, 2, 3], [], [4]],
    objects=objects,
    words=words,
    text="abc",
    raw=b"\x00\xff",
    large=[2**70, -(2**70)],
    broken=[[1, [2, 3]]],
    mixed=[[1, 2], [[3], [4]]],
    empty=np.zeros((0, 3)),
    one=np.float64(3),
)
data[7] = np.array([1.0])
for protocol in range(6):
    with open(f"p{protocol}.pkl", "wb") as file:
        pickle.dump(dict(data) if protocol % 2 else data, file, protocol)
with open("foreign.pkl", "wb") as file:
    pickle.dump({"x": Foreign()}, file, 2)
np.save("dict.npy", {"x": data["x"], "ragged": ragged}, allow_pickle=True)
arrays = {k: data[k] for k in ("x", "big", "i", "u", "b", "h", "words")}
np.savez("stored.npz", objects=objects, **arrays)
np.savez_compressed("deflated.npz", objects=objects, **arrays)
with open("lines.jsonl", "w") as file:
    for row in range(3):
        line = {"x": [row, row + 0.5], "n": row, "flag": row > 0, "ragged": ragged[row].tolist(), "word": "w"}
        file.write(json.dumps(line) + "\n" + ("\n" if row == 1 else ""))
