"""Our aggregators and attacks beside those of ByzFL 0.0.11, to 1e-5 relative on 1,000 random inputs for each.

    pip install numpy scipy byzfl==0.0.11 --no-deps
    cargo build -p signvote-byzantine --example aggregate
    python crates/byzantine/tests/beside_byzfl.py target/debug/examples/aggregate

Where conventions differ, ours by ByzFL's convention is compared: Krum's neighbours are n - f - 1 there, and n - f - 2 in the paper;
its sign flip flips the mean of the honest; its CAF takes one step of a power iteration, from a random direction, which is given
to both. Where two scores are within 1e-9 of each other, either choice is right, and the input is drawn again: that is
counted.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

INPUTS = 1000
TOLERANCE = 1e-5

Vectors = npt.NDArray[np.float64]
# A request for ours, what ByzFL says, and whether its choice was a near-tie.
Case = tuple[dict[str, Any], Vectors, bool]


def only_numpy() -> None:
    """ByzFL imports torch and torchvision for its trainings: what is compared needs neither, and so not its package's own imports."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        stub = types.ModuleType("torch")
        stub.Tensor = type("Tensor", (), {})  # type: ignore[attr-defined]
        sys.modules["torch"] = stub
        sys.modules["byzfl.utils.torch_tools"] = types.ModuleType("byzfl.utils.torch_tools")
    found = importlib.util.find_spec("byzfl")
    if found is None:
        sys.exit("byzfl is missing: pip install numpy scipy byzfl==0.0.11 --no-deps")
    package = types.ModuleType("byzfl")
    package.__path__ = list(found.submodule_search_locations or [])
    sys.modules["byzfl"] = package


only_numpy()
from byzfl.aggregators import aggregators as rules  # noqa: E402
from byzfl.aggregators import preaggregators as before  # noqa: E402
from byzfl.attacks import attacks  # noqa: E402

random = np.random.default_rng(20181025)


def draw(least: int = 4) -> tuple[Vectors, int]:
    """Vectors that f32 has exactly, some of them far off, and how many liars a rule is told of."""
    n, d = int(random.integers(least, 16)), int(random.integers(1, 61))
    scale = 10.0 ** random.uniform(-3, 3)
    vectors = random.normal(random.normal(0, 1, d), 1, (n, d)) * scale
    for outlier in range(int(random.integers(0, 1 + n // 3))):
        vectors[outlier] *= 100
    f = int(random.integers(0, (n - 1) // 2 + 1))
    return vectors.astype(np.float32).astype(np.float64), f


def close(values: Vectors, at: int) -> bool:
    """Whether what is chosen, the `at` lowest values, is a matter of rounding."""
    values = np.sort(values)
    return bool(at < len(values) and values[at] - values[at - 1] <= 1e-9 * max(abs(values[at]), 1e-30))


def distances(vectors: Vectors) -> Vectors:
    return ((vectors[:, None, :] - vectors[None, :, :]) ** 2).sum(axis=2)


def scores(vectors: Vectors, f: int) -> Vectors:
    return np.sort(distances(vectors), axis=1)[:, 1 : len(vectors) - f].sum(axis=1)


def simple(name: str, theirs: Callable[[int], Any], tie: Callable[[Vectors, int], bool] = lambda _v, _f: False) -> Iterator[Case]:
    while True:
        vectors, f = draw()
        yield {"rule": name, "f": f, "vectors": vectors.tolist()}, theirs(f)(vectors), tie(vectors, f)


def one_nearest(vectors: Vectors, f: int) -> bool:
    return close(scores(vectors, f), 1)


def some_nearest(vectors: Vectors, f: int) -> bool:
    return close(scores(vectors, f), len(vectors) - f)


def around_median(vectors: Vectors, f: int) -> bool:
    gaps = np.abs(vectors - np.median(vectors, axis=0))
    return any(close(gaps[:, at], len(vectors) - f) for at in range(vectors.shape[1]))


def neighbours(vectors: Vectors, f: int) -> bool:
    return any(close(row, len(vectors) - f) for row in distances(vectors))


def clipped() -> Iterator[Case]:
    while True:
        vectors, f = draw()
        tau = float(10.0 ** random.uniform(-2, 3))
        yield {"rule": f"centred-clipping-{tau}", "vectors": vectors.tolist()}, rules.CenteredClipping(tau=tau)(vectors), False


def smallest_diameter() -> Iterator[Case]:
    while True:
        vectors, f = draw()
        # Subsets are many: fewer workers.
        vectors = vectors[:10]
        f = min(f, (len(vectors) - 1) // 2)
        yield {"rule": "mda", "f": f, "vectors": vectors.tolist()}, rules.MDA(f=f)(vectors), False


def filtered() -> Iterator[Case]:
    """With f = 0 ByzFL's has no round, and no result; and where its rounds spend no weight, it does not end: these are drawn again."""
    while True:
        vectors, f = draw()
        f = max(f, 1)
        drawn: list[Vectors] = []

        def randn(dimension: int, drawn: list[Vectors] = drawn) -> Vectors:
            if len(drawn) == 300:
                raise OverflowError
            drawn.append(random.normal(size=dimension).astype(np.float32).astype(np.float64))
            return drawn[-1]

        kept, np.random.randn = np.random.randn, randn  # type: ignore[assignment]
        try:
            theirs = rules.CAF(f=f)(vectors)
        except OverflowError:
            theirs = None
        finally:
            np.random.randn = kept
        directions = [direction.tolist() for direction in drawn]
        undefined = theirs is None or not np.isfinite(theirs).all()
        yield {"rule": "caf", "f": f, "vectors": vectors.tolist(), "directions": directions}, theirs, undefined


def bucketed() -> Iterator[Case]:
    while True:
        vectors, _ = draw()
        size = int(random.integers(1, len(vectors) + 1))
        order = random.permutation(len(vectors))
        kept, np.random.permutation = np.random.permutation, lambda values, order=order: values[order]  # type: ignore[assignment]
        try:
            theirs = before.Bucketing(s=size)(vectors)
        finally:
            np.random.permutation = kept
        yield {"rule": "bucketing", "size": size, "order": order.tolist(), "vectors": vectors.tolist()}, theirs, False


def attack(name: str, knob: str | None, theirs: Callable[[float], Any], sign: float = 1.0) -> Iterator[Case]:
    while True:
        vectors, _ = draw()
        value = float(np.float32(random.uniform(0.1, 5.0))) if knob else 1.0
        request = {"rule": name, "vectors": vectors.tolist(), knob or "epsilon": sign * value}
        yield request, theirs(value)(vectors), False


CASES: dict[str, Iterator[Case]] = {
    "Average": simple("mean", lambda f: rules.Average()),
    "Median": simple("median", lambda f: rules.Median()),
    "TrMean": simple("trimmed-mean", lambda f: rules.TrMean(f=f)),
    "GeometricMedian": simple("geometric-median", lambda f: rules.GeometricMedian()),
    "Krum": simple("krum-byzfl", lambda f: rules.Krum(f=f), one_nearest),
    "MultiKrum": simple("multi-krum-byzfl", lambda f: rules.MultiKrum(f=f), some_nearest),
    "CenteredClipping": clipped(),
    "MDA": smallest_diameter(),
    "Meamed": simple("meamed", lambda f: rules.Meamed(f=f), around_median),
    "CAF": filtered(),
    "NNM": simple("nnm", lambda f: before.NNM(f=f), neighbours),
    "Bucketing": bucketed(),
    "SignFlipping": attack("ipm", None, lambda _: attacks.SignFlipping()),
    "InnerProductManipulation": attack("ipm", "epsilon", lambda tau: attacks.InnerProductManipulation(tau=tau)),
    "ALittleIsEnough": attack("alie", "z", lambda tau: attacks.ALittleIsEnough(tau=tau), sign=-1.0),
}


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    failed = 0
    print(f"{'ByzFL':26} inputs  drawn again  worst relative error")
    for name, cases in CASES.items():
        requests, expected, again = [], [], 0
        while len(requests) < INPUTS:
            request, theirs, tied = next(cases)
            if tied:
                again += 1
                continue
            requests.append(json.dumps(request))
            expected.append(np.atleast_2d(np.asarray(theirs)))
        ours = subprocess.run([sys.argv[1]], input="\n".join(requests), capture_output=True, text=True, check=False)
        if ours.returncode:
            print(f"{name}: {ours.stderr.strip()}")
            return 1
        worst = 0.0
        for line, theirs in zip(ours.stdout.splitlines(), expected, strict=True):
            found = np.array(json.loads(line))
            worst = max(worst, float(np.abs(found - theirs).max() / max(np.abs(theirs).max(), 1e-30)))
        agrees = worst <= TOLERANCE
        failed += not agrees
        print(f"{name:26} {INPUTS:6}  {again:11}  {worst:.1e}{'' if agrees else '  DISAGREES'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
