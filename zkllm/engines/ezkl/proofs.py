"""What ezkl and zkllm exchange: witnesses and proofs as ezkl's files, evidence as bytes.

Evidence is the proof alone. The instances, all the public integers that the proof is about, come
from the verifier: from the claim and from what the equations demand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from zkllm.engines.ezkl.expressions import FIELD
from zkllm.errors import BackendError, InvalidBundle

MAX_PROOF = 1 << 16
"""Bytes; a proof of the largest recipe has about 10 kB."""
_FELT_BYTES = 32


def felt(value: int) -> str:
    """Ezkl's text for a field element: 64 hex digits, little endian."""
    return (value % FIELD).to_bytes(_FELT_BYTES, "little").hex()


def input_json(values: Sequence[int]) -> str:
    """The file of inputs for a graph with one input tensor."""
    return json.dumps({"input_data": [[felt(value) for value in values]]})


def proof_json(proof: bytes, instances: Sequence[int]) -> str:
    """Ezkl's proof file with nothing in it but what `verify` reads."""
    return json.dumps(
        {
            "protocol": None,
            "instances": [[felt(value) for value in instances]],
            "proof": list(proof),
        }
    )


def proof_bytes(data: bytes) -> bytes:
    """The proof in a proof file that ezkl wrote; raises `BackendError` if there is none."""
    try:
        proof = bytes(json.loads(data)["proof"])
    except (ValueError, KeyError, TypeError) as err:
        raise BackendError("ezkl prove wrote no proof") from err
    if not 0 < len(proof) <= MAX_PROOF:
        raise BackendError(f"expected a proof of at most {MAX_PROOF} bytes, got {len(proof)}")
    return proof


def check_evidence(evidence: bytes) -> None:
    """Raises `InvalidBundle` for bytes that are no proof by their length alone."""
    if not 0 < len(evidence) <= MAX_PROOF:
        raise InvalidBundle(f"expected a proof of 1 to {MAX_PROOF} bytes, got {len(evidence)}")
