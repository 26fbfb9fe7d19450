"""What TensorBoard reads of a run is what events.jsonl says: beside_tensorboard.py RUN_DIR, with the package `tensorboard`."""

import json
import math
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def single(value):
    """As f32 has it."""
    return struct.unpack("f", struct.pack("f", value))[0]


def expected(path):
    """(directory, tag) -> [(round, value)], from the events."""
    scalars = {}

    def add(directory, tag, step, value):
        if value is not None:
            scalars.setdefault((directory, tag), []).append((step, single(value)))

    for line in path.read_text().splitlines():
        event = json.loads(line)
        kind = event["event"]
        if kind == "committed":
            step = event["round"] + 1
            for tag in ("loss", "accuracy", "voters", "ties", "holds"):
                add("train", tag, step, event[tag])
            add("train", "learning_rate", step, event["eta"])
        elif kind == "votes":
            for row in event["workers"]:
                add("train", f"agreement/worker_{row['slot']}", event["round"], row["agreement"])
        elif kind == "traffic":
            for way in ("up", "down"):
                total = sum(row[f"round_{way}_bytes"] for row in event["workers"])
                add("train", f"bytes/{way}", event["round"], total)
        elif kind == "evaluated":
            add("test", "loss", event["round"], event["test_loss"])
            add("test", "accuracy", event["round"], event["test_accuracy"])
    return scalars


def main():
    run = pathlib.Path(sys.argv[1])
    scalars = expected(run / "events.jsonl")
    read = {}
    for directory in ("train", "test"):
        accumulator = EventAccumulator(str(run / "tensorboard" / directory), size_guidance={"scalars": 0})
        accumulator.Reload()
        for tag in accumulator.Tags()["scalars"]:
            read[directory, tag] = [(event.step, event.value) for event in accumulator.Scalars(tag)]
    assert scalars.keys() == read.keys(), scalars.keys() ^ read.keys()
    for key, values in scalars.items():
        got = read[key]
        assert len(got) == len(values), (key, len(got), len(values))
        for (step, value), (read_step, read_value) in zip(values, got):
            assert step == read_step and math.isclose(value, read_value, rel_tol=1e-6), (key, step, value, read_value)
    print(f"TensorBoard reads {sum(map(len, scalars.values()))} scalars back under {len(scalars)} tags, all as they were")


main()
