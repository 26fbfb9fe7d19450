"""Runs a function on several ranks over Gloo, each a process of its own."""

from __future__ import annotations

import datetime
import os
import sys
import tempfile
import traceback
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _run(rank: int, world: int, store: str, timeout: float, scenario: Callable[..., None], arguments: tuple) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=timeout),
    )
    try:
        scenario(*arguments)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    # Whoever ends first must not take the others' connections along.
    dist.barrier()
    dist.destroy_process_group()


def on_ranks(world: int, scenario: Callable[..., None], *arguments: object, timeout: float = 60) -> None:
    """Runs ``scenario`` on so many ranks; fails if it does on any."""
    with tempfile.TemporaryDirectory() as directory:
        mp.start_processes(
            _run,
            args=(world, os.path.join(directory, "store"), timeout, scenario, arguments),
            nprocs=world,
            start_method="spawn",
        )
