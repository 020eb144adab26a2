"""Time and peak memory of scoring precomputed embeddings, compared with a lower bound in NumPy.

The embeddings are random, of 512 dimensions, in two ``.npy`` files. The lower bound reads them, scales them to unit
length, subtracts the means, and writes the cosines before and after to a CSV file. Each runs in a new process.

    python benchmarks/embeddings.py --pairs 100000
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DIMENSION = 512
LOWER_BOUND = """
import numpy as np
x, y = (np.load(name) for name in ("x.npy", "y.npy"))
for side in (x, y):
    side /= np.linalg.norm(side, axis=1, keepdims=True)
columns = [(x * y).sum(axis=1)]
for side in (x, y):
    side -= side.mean(axis=0)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
np.savetxt("bound.csv", np.stack([*columns, (x * y).sum(axis=1)], axis=1), delimiter=",", fmt="%.6f")
"""
SCORE = """
import sys
from i0tscore.cli.main import main
arguments = ["--format", "csv", "--output", "scores.csv", "--no-ranks", "--quiet"]
sys.exit(main(["score", "--image-embeddings", "x.npy", "--caption-embeddings", "y.npy", *arguments]))
"""


def write_embeddings(folder: Path, pairs: int) -> None:
    """Write embeddings with a modality gap, in blocks, and their ids.

    The files are not mapped into memory: on Linux, the peak memory of a new process includes that of this one.
    """
    random = np.random.default_rng(0)
    header = {"descr": "<f4", "fortran_order": False, "shape": (pairs, DIMENSION)}
    for name in "xy":
        mean = random.normal(size=DIMENSION)
        with (folder / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for first in range(0, pairs, 10_000):
                block = mean + random.normal(size=(min(10_000, pairs - first), DIMENSION))
                file.write(block.astype("<f4").tobytes())
        with (folder / f"{name}.ids.txt").open("w") as file:
            file.writelines(f"id{i}\n" for i in range(pairs))


def measure(code: str) -> tuple[float, float, float]:
    """Run code in a new process, and return wall time in s, CPU time in s, and peak memory in GB."""
    start = time.perf_counter()
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"The process failed with status {status}.")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000, help="number of pairs (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, alternating (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_embeddings(Path(folder), arguments.pairs)
        os.chdir(folder)
        runs = [(measure(SCORE), measure(LOWER_BOUND)) for _ in range(arguments.repeats)]
        os.chdir("/")
    print(f"{arguments.pairs:,} pairs of {DIMENSION} dimensions, CSV output, medians of {arguments.repeats}")
    print(f"{'':12} {'wall s':>8} {'CPU s':>8} {'GB':>6}")
    for name, times in zip(("i0tscore", "lower bound"), zip(*runs, strict=True), strict=True):
        wall, cpu, memory = np.median(times, axis=0)
        print(f"{name:12} {wall:8.1f} {cpu:8.1f} {memory:6.2f}")
    ratios = [ours[1] / bound[1] for ours, bound in runs]
    print(f"ratio of CPU times: {np.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
