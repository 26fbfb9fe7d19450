"""Trains an mlp on Fashion-MNIST with Lightning, by majority vote.

python lightning_fashion_mnist.py --ranks 2
"""

import argparse

import lightning
import torch
from fashion_mnist import dataset, mlp
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from signvote.torch import SignSGD, SignSGDState, majority_vote_hook


class Classifier(lightning.LightningModule):
    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.model, self.epochs = mlp(), epochs

    def training_step(self, batch: list[torch.Tensor], _index: int) -> torch.Tensor:
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.model(images), labels)

    def test_step(self, batch: list[torch.Tensor], _index: int) -> None:
        images, labels = batch
        accuracy = (self.model(images).argmax(dim=1) == labels).float().mean()
        self.log("test accuracy", accuracy, sync_dist=True)

    def configure_optimizers(self) -> dict:
        optimizer = SignSGD(self.parameters(), lr=1e-3)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=flags.ranks,
        # The two lines.
        strategy=DDPStrategy(ddp_comm_state=SignSGDState(), ddp_comm_hook=majority_vote_hook, process_group_backend="gloo"),
        max_epochs=flags.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    classifier = Classifier(flags.epochs)
    trainer.fit(classifier, DataLoader(dataset("train"), batch_size=32, shuffle=True))
    found = trainer.test(classifier, DataLoader(dataset("t10k"), batch_size=500), verbose=False)
    if trainer.is_global_zero:
        print(f"test accuracy {found[0]['test accuracy']:.2%}")


if __name__ == "__main__":
    main()
