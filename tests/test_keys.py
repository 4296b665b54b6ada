"""Keys that come from elsewhere: a policy pins what follows from the model, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zkllm.digests import canonical_json
from zkllm.errors import DigestMismatch
from zkllm.exact.model import ExactModel
from zkllm.keys import policy_for, setup

UNIT = "mlp[0]"


def test_a_policy_pins_no_commitment_to_other_weights(
    tiny_model: ExactModel, tmp_path: Path
) -> None:
    """Whoever pins the root of other weights believes in a run of those."""
    made = setup(tiny_model, "sumcheck", tmp_path, units=[UNIT])
    assert policy_for(tiny_model, tmp_path).keys == {UNIT: made[UNIT].digests}
    path = tmp_path / "mlp.0" / "commitment.json"
    commitment = json.loads(path.read_bytes())
    path.write_bytes(canonical_json(commitment | {"root": commitment["root"][::-1]}))
    with pytest.raises(DigestMismatch, match=r"not the commitment to this model's mlp\[0\]"):
        policy_for(tiny_model, tmp_path)
