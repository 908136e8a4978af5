"""Matrix products of the workloads by torch.mm, one thread: the least time of each, to set kurc's kernels beside.

In: seconds to run (default 15). Out: a line for each product, rows x inner indices x columns; `ta` and `tb` mark a left and
a right matrix that is stored transposed.
"""

import sys
import time

import torch

PRODUCTS = [
    (256, 256, 256, ""), (256, 256, 256, "ta"), (256, 256, 256, "tb"),
    (128, 784, 512, ""), (784, 128, 512, "ta"), (128, 512, 256, ""), (128, 256, 512, "tb"),
    (960, 128, 384, ""), (960, 384, 128, "tb"), (128, 960, 384, "ta"),
    (3120, 256, 768, ""), (3120, 768, 256, "tb"), (256, 3120, 768, "ta"),
    (32, 256, 256, ""), (32, 784, 512, ""),
]  # fmt: skip


def operands(m, k, n, kind):
    left = torch.randn(k, m).t() if kind == "ta" else torch.randn(m, k)
    right = torch.randn(n, k).t() if kind == "tb" else torch.randn(k, n)
    return left, right, torch.empty(m, n)


def main():
    torch.set_num_threads(1)
    end = time.perf_counter() + float(sys.argv[1] if len(sys.argv) > 1 else 15)
    made = [operands(*product) for product in PRODUCTS]
    least = [float("inf")] * len(made)
    while time.perf_counter() < end:
        for i, (left, right, out) in enumerate(made):
            for _ in range(4):
                start = time.perf_counter()
                torch.mm(left, right, out=out)
                least[i] = min(least[i], time.perf_counter() - start)
    for (m, k, n, kind), seconds in zip(PRODUCTS, least):
        name = f"{m}x{k}x{n} {kind}"
        print(f"{name:18} {seconds * 1e6:9.1f} us {2 * m * k * n / seconds / 1e9:6.1f} GFLOP/s")


if __name__ == "__main__":
    main()
