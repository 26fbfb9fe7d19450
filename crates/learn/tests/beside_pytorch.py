"""Writes forward.txt: what PyTorch makes of the models, with weights and inputs that both sides compute by one formula.

Run with torch and torchvision, from anywhere: python beside_pytorch.py. The test `the_models_give_what_pytorch_gives` of the
crate compares. Each line is: model, what, numbers. `logits` are those of a finished model whose batch normalisations have mean 0
and variance 1; `loss` is that of a batch that is trained on, `norms` are the L2 norms of its gradients, parameter by parameter
(for models that drop no units).
"""

from __future__ import annotations

import pathlib

import numpy
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

CLASSES_SHOWN = 12


def numbers(which: int, count: int) -> numpy.ndarray:
    """In [-1, 1), by multiplicative hashing: exact in both languages."""
    with numpy.errstate(over="ignore"):
        at = numpy.arange(count, dtype=numpy.uint32)
        word = (at * numpy.uint32(2654435761)) ^ numpy.uint32((which * 2246822519) % 2**32)
        word = (word ^ (word >> numpy.uint32(15))) * numpy.uint32(3266489917)
    return ((word >> numpy.uint32(8)).astype(numpy.float64) / 2**23 - 1.0).astype(numpy.float32)


def fill(model: nn.Module) -> None:
    """Weights of a layer in [-1/sqrt(fan_in), 1/sqrt(fan_in)), everything of one dimension in [-0.1, 0.1), weights of norms 1 more."""
    norms = (nn.BatchNorm2d, nn.LayerNorm)
    names = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, norms)}
    for which, (name, parameter) in enumerate(model.named_parameters()):
        values = torch.from_numpy(numbers(which, parameter.numel())).reshape(parameter.shape)
        if parameter.dim() == 1:
            values = values * 0.1 + (1.0 if name in names else 0.0)
        else:
            values = values / parameter[0].numel() ** 0.5
        with torch.no_grad():
            parameter.copy_(values)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = (part.view(n, t, self.heads, c // self.heads).transpose(1, 2) for part in self.c_attn(x).split(c, 2))
        return self.c_proj(scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, c))


class Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(nn.functional.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.ln_2, self.mlp = nn.LayerNorm(width), Perceptron(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    def __init__(self, vocabulary: int, length: int, width: int = 128, heads: int = 4, layers: int = 4) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe.weight
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


class Layer(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        z, f, o = self.linear(x).chunk(3, 2)
        z, f, o, state, out = z.tanh(), f.sigmoid(), o.sigmoid(), torch.zeros_like(z[:, 0]), []
        for step in range(x.shape[1]):
            state = f[:, step] * state + (1 - f[:, step]) * z[:, step]
            out.append(o[:, step] * state)
        return torch.stack(out, 1)


class Qrnn(nn.Module):
    def __init__(self, vocabulary: int, embedding: int = 128, hidden: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.encoder = nn.Embedding(vocabulary, embedding)
        widths = [embedding, *[hidden] * (layers - 1), embedding]
        self.rnns = nn.ModuleList(Layer(i, o) for i, o in zip(widths, widths[1:]))
        self.decoder = nn.Linear(embedding, vocabulary)
        self.decoder.weight = self.encoder.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.encoder(tokens)
        for layer in self.rnns:
            x = layer(x)
        return self.decoder(x)


def small_resnet() -> nn.Module:
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


def main() -> None:
    lines = []
    images = [
        ("resnet18-32", small_resnet(), 32, 10, True),
        ("resnet18", torchvision.models.resnet18(), 96, 1000, True),
        ("resnet50", torchvision.models.resnet50(), 96, 1000, True),
        ("alexnet", torchvision.models.alexnet(), 224, 1000, False),
    ]
    cases = []
    for name, model, size, classes, trained in images:
        pixels = torch.from_numpy(numbers(1_000_003, 4 * 3 * size * size)).reshape(4, 3, size, size) * 2
        cases.append((name, model, pixels, torch.arange(4) * 7 % classes, trained))
    for name, model, trained in [("gpt-small", Gpt(50, 16), True), ("qrnn-small", Qrnn(50), False)]:
        tokens = torch.arange(4 * 16).reshape(4, 16) * 31 % 50
        cases.append((name, model, tokens, (tokens.flatten() * 3 + 1) % 50, trained))
    for name, model, inputs, labels, trained in cases:
        fill(model)
        model.eval()
        with torch.no_grad():
            logits = model(inputs).reshape(len(labels), -1)
        shown = logits[:, :CLASSES_SHOWN].flatten().tolist()
        lines.append(f"{name} logits {' '.join(f'{value:.7g}' for value in shown)}")
        if trained:
            model.train()
            loss = cross_entropy(model(inputs).reshape(len(labels), -1), labels)
            loss.backward()
            norms = [parameter.grad.norm().item() for parameter in model.parameters()]
            lines.append(f"{name} loss {loss.item():.7g}")
            lines.append(f"{name} norms {' '.join(f'{value:.7g}' for value in norms)}")
    pathlib.Path(__file__).with_name("forward.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
