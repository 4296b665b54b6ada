"""Train, or measure, the bundled demo model: a character-level GPT-2 that adds two-digit numbers.

    python models/train_demo.py            train, write models/demo/, then measure
    python models/train_demo.py --check    measure the checkpoint that is in models/demo/

The model reads ``12+34=`` and continues ``46`` and a newline.  One sum in ten is held out; a+b and
b+a count as one sum, so the model has not seen a held-out sum in either order.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch.nn import functional as F

# The folder is not a package, so a program that imports this file from elsewhere needs the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpt2 import GPT, Config, load_checkpoint, save_checkpoint

FOLDER = Path(__file__).resolve().parent / "demo"
ALPHABET = "0123456789+=\n"
PROMPT = len("12+34=")
ANSWER = len("125")  # the longest answer, without the newline that ends every answer
LAYERS = ("c_attn.weight", "c_fc.weight", "c_proj.weight")
IGNORED = -100  # cross_entropy's value for a target that does not count

CONFIG = Config(
    vocab_size=len(ALPHABET),
    n_positions=16,
    n_embd=32,
    n_head=2,
    n_layer=2,
    bos_token_id=ALPHABET.index("\n"),
    eos_token_id=ALPHABET.index("\n"),
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights, apart from the model's sizes."""

    seed: int = 0
    steps: int = 5_000
    warmup: int = 200
    batch: int = 512
    learning_rate: float = 3e-3
    final_learning_rate: float = 3e-5
    weight_decay: float = 0.7  # on `LAYERS`; later bounds are proven from their norms
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0

    def rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to the final rate."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        wave = 0.5 * (1 + math.cos(math.pi * done))
        return self.final_learning_rate + wave * (self.learning_rate - self.final_learning_rate)


Sum = tuple[int, int]


def split_sums(seed: int = 0, held_out_of: int = 10) -> tuple[list[Sum], list[Sum]]:
    """All sums of two numbers from 10 to 99, as (training, held out), each in both orders.

    The order that decides the split comes from a hash and not from a random generator, so that it
    stays the same in every version of every library.
    """
    pairs = [(a, b) for a in range(10, 100) for b in range(a, 100)]
    pairs.sort(key=lambda pair: hashlib.sha256(f"{seed}:{pair[0]}+{pair[1]}".encode()).digest())
    count = len(pairs) // held_out_of

    def both_orders(some: list[Sum]) -> list[Sum]:
        return sorted({order for a, b in some for order in ((a, b), (b, a))})

    return both_orders(pairs[count:]), both_orders(pairs[:count])


def build_tokenizer() -> Tokenizer:
    """One token per character, and an error for any character outside the alphabet.

    A word-level model whose unknown token is missing from its vocabulary raises on an unknown
    word; a byte-pair model would drop the character in silence.
    """
    vocabulary = {character: index for index, character in enumerate(ALPHABET)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()  # joins the characters without spaces
    return tokenizer


def encode_sums(sums: list[Sum], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """Inputs and targets, both [n, PROMPT + ANSWER]; only the answer's characters are targets."""
    length = PROMPT + ANSWER + 1
    texts = [f"{a}+{b}={a + b}\n" for a, b in sums]
    ids = torch.tensor([tokenizer.encode(text.ljust(length, "\n")).ids for text in texts])
    inputs, targets = ids[:, :-1], ids[:, 1:].clone()
    targets[:, : PROMPT - 1] = IGNORED  # the numbers of a sum cannot be foretold
    for row, text in enumerate(texts):
        targets[row, len(text) - 1 :] = IGNORED  # nothing follows a sum
    return inputs, targets


def train(config: Config, recipe: Recipe, sums: list[Sum], tokenizer: Tokenizer) -> GPT:
    """Train a model on these sums; the same arguments give the same weights on one machine."""
    torch.manual_seed(recipe.seed)
    inputs, targets = encode_sums(sums, tokenizer)
    model = GPT(config)
    # Embeddings set the scale of the residual stream, which rounding must not drown: no decay.
    named = list(model.named_parameters())
    groups = [
        {
            "params": [p for name, p in named if name.endswith(LAYERS)],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [p for name, p in named if not name.endswith(LAYERS)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)
    columns = (
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.5f}"),
        TimeRemainingColumn(),
    )
    order = torch.empty(0, dtype=torch.long)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("training", total=recipe.steps, loss=math.nan)
        for step in range(recipe.steps):
            if len(order) < recipe.batch:
                order = torch.randperm(len(inputs))
            rows, order = order[: recipe.batch], order[recipe.batch :]
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(step)
            logits = model(inputs[rows])  # [b, t, vocab_size]
            loss = F.cross_entropy(
                logits.flatten(0, 1), targets[rows].flatten(), ignore_index=IGNORED
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            progress.update(bar, advance=1, loss=loss.item())
    return model.eval()


def wrong_answers(model: GPT, tokenizer: Tokenizer, sums: list[Sum]) -> list[tuple[Sum, str]]:
    """The sums that greedy decoding gets wrong, each with what the model wrote instead."""
    prompts = torch.tensor([tokenizer.encode(f"{a}+{b}=").ids for a, b in sums])
    answers = model.generate(prompts, ANSWER + 1)[:, PROMPT:]  # [n, ANSWER + 1]
    wrong = []
    for (a, b), ids in zip(sums, answers.tolist(), strict=True):
        written, stop, _ = tokenizer.decode(ids).partition("\n")
        if written != str(a + b) or not stop:
            wrong.append(((a, b), written))
    return wrong


def report(model: GPT, tokenizer: Tokenizer) -> None:
    """Print the model's size and its exact-answer accuracy on both halves of the split."""
    print(f"parameters: {sum(parameter.numel() for parameter in model.parameters())}")
    training, held_out = split_sums()
    for name, sums in (("training", training), ("held-out", held_out)):
        wrong = wrong_answers(model, tokenizer, sums)
        right = len(sums) - len(wrong)
        print(f"{name} sums: {right} of {len(sums)} exact ({right / len(sums):.2%})")
        for (a, b), written in wrong[:10]:
            print(f"  wrong: {a}+{b}={a + b}, the model wrote {written!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="measure without training")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: models/demo")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.check:
        torch.use_deterministic_algorithms(True)
        tokenizer = build_tokenizer()
        start = time.perf_counter()
        model = train(CONFIG, Recipe(), split_sums()[0], tokenizer)
        print(f"trained in {time.perf_counter() - start:.0f} s")
        save_checkpoint(model, tokenizer, arguments.folder)
    report(*load_checkpoint(arguments.folder))


if __name__ == "__main__":
    main()
