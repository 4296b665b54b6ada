"""How many bits of soundness the proofs of GPT-2 small have, unit by unit.

They follow from shapes and bounds: a proof of every unit is rehearsed, none is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from benchmarks.measuring import console, table
from benchmarks.synthetic import GPT2_SMALL, specification_of
from zkllm.backends.sumcheck.estimates import circuit_of, rehearse
from zkllm.exact.specification import Specification


def tell(runs: tuple[int, ...]) -> None:
    """A table of the least and the most bits of each kind of unit, over `runs` of positions."""
    specification = specification_of(GPT2_SMALL)
    modes = [(tokens, committed) for tokens in runs for committed in (False, True)]
    told = table("", *(f"T = {t}, {'committed' if c else 'held'}" for t, c in modes))
    lines: dict[str, list[str]] = {}
    every: list[str] = []
    for tokens, committed in modes:
        found = dict(bits_of(specification, tokens, committed=committed))
        for line, bits in found.items():
            lines.setdefault(line, []).append(span(bits))
        every.append(span(bit for bits in found.values() for bit in bits))
    for line, cells in lines.items():
        told.add_row(line, *cells)
    told.add_row("all units", *every)
    console.print("\nbits of soundness of GPT-2 small, least to most")
    console.print(told)


def bits_of(
    specification: Specification, tokens: int, *, committed: bool
) -> Iterator[tuple[str, list[float]]]:
    """Bits of all units of a kind; of the head with one generated token and with the most."""
    blocks = range(specification.architecture.blocks)
    kinds = {
        "embed": ["embed"],
        "attention": [f"attention[{i}]" for i in blocks],
        "mlp": [f"mlp[{i}]" for i in blocks],
    }
    for kind, units in kinds.items():
        circuits = (circuit_of(specification, unit, tokens) for unit in units)
        yield kind, [rehearse(circuit, committed=committed)[1] for circuit in circuits]
    for name, generated in {"head, 1 generated": 1, "head, T generated": tokens}.items():
        circuit = circuit_of(specification, "head", tokens, generated)
        yield name, [rehearse(circuit, committed=committed)[1]]


def span(bits: Iterable[float]) -> str:
    """The least and the most, to two decimals, rounded down."""
    texts = [f"{math.floor(100 * bit) / 100:.2f}" for bit in sorted(bits)]
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} - {texts[-1]}"
