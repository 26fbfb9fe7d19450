"""Trains an mlp on Fashion-MNIST with the Trainer of Hugging Face Transformers, by majority vote.

torchrun --nproc-per-node 2 trainer_fashion_mnist.py
"""

import argparse
import tempfile

import torch
from fashion_mnist import dataset, load, mlp
from transformers import Trainer, TrainingArguments

from signvote.accelerate import MajorityVoteKwargs
from signvote.torch import SignSGD


class Classifier(torch.nn.Module):
    """Answers as the Trainer wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = mlp()

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.model(images)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def collate(items: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    images, labels = zip(*items, strict=True)
    return {"images": torch.stack(images), "labels": torch.stack(labels)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        options = TrainingArguments(
            output_dir=directory,
            use_cpu=True,
            num_train_epochs=flags.epochs,
            per_device_train_batch_size=32,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            # Clipping would scale a vector of signs by 1/√d.
            max_grad_norm=0.0,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        model = Classifier()
        optimizer = SignSGD(model.parameters(), lr=1e-3)
        data = dataset("train")
        trainer = Trainer(model, options, data_collator=collate, train_dataset=data, optimizers=(optimizer, None))
        # The vote.
        trainer.accelerator.ddp_handler = MajorityVoteKwargs()
        trainer.train()
        if trainer.is_world_process_zero():
            images, labels = load("t10k")
            accuracy = (model.model(images).argmax(dim=1) == labels).float().mean().item()
            print(f"test accuracy {accuracy:.2%}")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
