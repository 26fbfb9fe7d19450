"""A run's model, from the directory of its server."""

from __future__ import annotations

import json
import os
import pathlib
import warnings

import torch
from torch import Tensor, nn

from .. import _native


def running_statistics(model: nn.Module) -> list[Tensor]:
    """The running means and variances of a model, in the order in which workers send them: that of its parameters."""
    named = model.named_buffers()
    return [buffer for name, buffer in named if name.rpartition(".")[2] in {"running_mean", "running_var"}]


def load_run(model: nn.Module, run_dir: str | os.PathLike[str]) -> int:
    """Gives a model the parameters of a run, and its batch normalisations the running statistics of the run's workers.

    The statistics are the medians of what the workers have sent when the run was over; each worker's own model has its own. Where
    the run has none for these parameters the model's are left as they are, with a warning.

    Args:
        model: of the same names and shapes as the workers'.
        run_dir: the directory of ``signvote server --run-dir``. Under ``--ema`` the parameters are the average.

    Returns:
        How many rounds the run had.
    """
    try:
        from safetensors import safe_open
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("load_run needs safetensors: pip install safetensors", name="safetensors") from error
    directory = pathlib.Path(run_dir)
    average = directory / "ema.safetensors"
    path = average if average.exists() else directory / "model.safetensors"
    with safe_open(path, "pt") as file:
        notes = json.loads(file.metadata()["signvote"])
        saved: list[tuple[str, Tensor]] = [(name, file.get_tensor(name)) for name in notes["order"]]
    named = list(model.named_parameters())
    if [(name, value.shape) for name, value in saved] != [(name, parameter.shape) for name, parameter in named]:
        raise _native.ShapeError(f"{path} holds another model: its parameters have other names or shapes")
    with torch.no_grad():
        for (_, parameter), (_, value) in zip(named, saved, strict=True):
            parameter.copy_(value)
    buffers = running_statistics(model)
    if buffers:
        digest = _native.digest(torch.cat([value.reshape(-1) for _, value in saved]))
        path = directory / "statistics.safetensors"
        if why := _load_statistics(path, buffers, digest):
            warnings.warn(f"the model keeps its running statistics: {why}", stacklevel=2)
    rounds: int = notes["round"]
    return rounds


def _load_statistics(path: pathlib.Path, buffers: list[Tensor], digest: str) -> str:
    """Fills the buffers; says why it has not."""
    from safetensors import safe_open

    if not path.exists():
        return f"the run has no {path.name}"
    with safe_open(path, "pt") as file:
        notes = json.loads(file.metadata()["signvote-statistics"])
        values: Tensor = file.get_tensor("statistics")
    if notes["digest"] != digest:
        return f"{path.name} is of other parameters"
    if values.numel() != sum(buffer.numel() for buffer in buffers):
        return f"{path.name} has {values.numel()} values, and the model another number"
    with torch.no_grad():
        for buffer, part in zip(buffers, torch.split(values, [buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(part.view(buffer.shape))
    return ""
