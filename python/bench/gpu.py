"""Times the kernels on a GPU beside a copy of as many bytes on it. Every answer is compared with the native kernels'.

python gpu.py [--coordinates 25557032] [--voters 8]
"""

import argparse
import statistics
import sys
from collections.abc import Callable

import torch

import signvote
from signvote.torch import _planes, _triton


def milliseconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(25):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    # The first ones compile.
    return statistics.median(times[5:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coordinates", type=int, default=25_557_032)
    parser.add_argument("--voters", type=int, default=8)
    flags = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("skipped: there is no CUDA device")
    d, words = flags.coordinates, _planes.words(flags.coordinates)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; {d:,} coordinates, {flags.voters} voters")
    print(f"{'':<14} {'ms':>8} {'GB/s':>8} {'of a copy':>10}")
    generator = torch.Generator().manual_seed(1)
    gradient, momentum = torch.randn(d, generator=generator), torch.randn(d, generator=generator)
    planes = [torch.empty(words, dtype=torch.int64) for _ in range(2)]
    on_gpu = [tensor.cuda() for tensor in (gradient, momentum, *planes)]
    _planes.momentum_pack(gradient, momentum, 0.9, *planes)
    _triton.momentum_pack(*on_gpu[:2], 0.9, *on_gpu[2:], "momentum")
    wrong = [not torch.equal(one, other.cpu()) for one, other in zip((momentum, *planes), on_gpu[1:], strict=True)]

    ballots = [(torch.randint(-(2**63), 2**63 - 1, (words,), generator=generator), None) for _ in range(flags.voters)]
    signs, hold, coins = (torch.empty(words, dtype=torch.int64) for _ in range(3))
    signvote.coins([(0, d)], coins, seed=1, step=1)
    _planes.decide(ballots, d, signs, hold, "coin", coins, 0)
    there = [(cast.cuda(), None) for cast, _ in ballots]
    verdict, held, thrown = torch.empty_like(on_gpu[2]), torch.empty_like(on_gpu[2]), coins.cuda()
    _triton.decide(there, d, verdict, held, "coin", thrown, 0)
    out, x = torch.empty(d, device="cuda"), gradient.cuda()
    _triton.unpack(verdict, None, out)
    expected = torch.empty(d)
    _planes.unpack(signs, None, expected)
    wrong += [not torch.equal(signs, verdict.cpu()), not torch.equal(expected, out.cpu())]
    if any(wrong):
        sys.exit(f"a kernel's answer is not that of the CPU: {wrong}")

    # Bytes read and written, and what does it.
    runs: dict[str, tuple[int, Callable[[], object]]] = {
        "momentum_pack": (12 * d + d // 4, lambda: _triton.momentum_pack(*on_gpu[:2], 0.9, *on_gpu[2:], "momentum")),
        "decide": ((flags.voters + 3) * d // 8, lambda: _triton.decide(there, d, verdict, held, "coin", thrown, 0)),
        "unpack": (4 * d + d // 8, lambda: _triton.unpack(verdict, None, out)),
        "apply": (8 * d + d // 8, lambda: _triton.apply(x, verdict, None, 1e-3, 0.0)),
    }
    for name, (size, run) in runs.items():
        source = torch.empty(size // 2, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        taken, copied = milliseconds(run), milliseconds(lambda source=source, target=target: target.copy_(source))
        print(f"{name:<14} {taken:>8.3f} {size / taken / 1e6:>8.0f} {copied / taken:>10.0%}")


if __name__ == "__main__":
    main()
