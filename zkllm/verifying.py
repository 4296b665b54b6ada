"""Verification: a statement that may be believed, or a refusal. There is no third answer.

Imports neither torch, onnx nor onnxruntime: a pipeline that gates on bundles installs little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from zkllm.backends import get_backend
from zkllm.backends.base import INSECURE_ASSUMPTION, Checked, Claim, Pin
from zkllm.bundle import Bundle, Evidence, largest_size
from zkllm.digests import sha256
from zkllm.errors import (
    DigestMismatch,
    InputError,
    PolicyViolation,
    StatementMismatch,
    UntrustedMaterial,
    VerificationError,
    meaning,
)
from zkllm.exact.model import ExactModel
from zkllm.exact.specification import Specification
from zkllm.files import AnyPath, as_path, read_limited
from zkllm.material import Material, own_mistakes
from zkllm.operations.unit import Ids, Rows
from zkllm.policy import Policy
from zkllm.progress import Progress, silent
from zkllm.tensors import first_beyond
from zkllm.tokenization import Tokenizer, room
from zkllm.verdict import Report, Request
from zkllm.workers import Workers


def verify(
    bundle: AnyPath | bytes,
    policy: Policy | AnyPath,
    *,
    model: ExactModel | AnyPath,
    keys: AnyPath | None = None,
    request: Request | None = None,
    workers: Workers | None = None,
    progress: Progress = silent,
) -> Report:
    """Verify `bundle` under `policy` and return the statement with how it was checked.

    `model` is the exact model, or its folder; its weights are read only for units that are
    recomputed, or proved under weights that the verifier holds. `keys` is the folder of verifying
    keys. `workers` are processes of the verifier that check evidence beside each other. Raises
    `VerificationError` if a check refuses, `InputError` for a malformed bundle or policy (it is
    `WrongMaterial` where policy, model and keys do not fit each other), `BackendError` if no check
    was possible.

    1. Nothing is larger than the specification allows. 2. The header is strict JSON. 3. Only
    regular files are read. 4. The model is the policy's. 5. The policy's own demands hold: every
    unit is covered exactly once by the backend it names; nonce and request. 6. Every tensor has
    its length and its range. 7. Boundaries meet. 8. Each unit's evidence. 9. Prompt ids are the
    tokenizer's, generated ids the arg-max of the proved logits. 10. The completion is what they
    add to the text of the prompt's. 11. The nonce, where one is given, is bound by the evidence of
    a unit.
    """
    # (4) first of all: the caps of (1) come from the specification, which must be the right one.
    material = Material.gather(policy, model, keys)
    return verify_with(material, bundle, request=request, workers=workers, progress=progress)


def verify_with(
    material: Material,
    bundle: AnyPath | bytes,
    *,
    request: Request | None = None,
    workers: Workers | None = None,
    progress: Progress = silent,
) -> Report:
    """As `verify`, with material that was gathered before: once for many bundles."""
    policy, model, keys = material.policy, material.model, material.keys
    request = request or Request()
    specification = model.specification
    if workers is not None and workers.digest != model.digest:
        raise DigestMismatch(f"model: expected {model.digest}, the workers have {workers.digest}")
    # (1) and (3): a regular file, no longer than any bundle of this model can be
    limit = largest_size(specification, policy.units)
    data = bundle if isinstance(bundle, bytes) else read_limited(as_path(bundle, "bundle"), limit)
    # (1), (2), (6), (7): a boundary stands once in the container, as the output of one unit and
    # the input of the next, and has the digest that the statement names
    parsed = Bundle.from_bytes(data, specification)
    with meaning("the bundle does not give what the policy demands"):
        _check_policy(parsed, policy, request, specification)
    with meaning("this is no answer to what was asked"):
        _check_request(parsed, request)
    read = check_run(parsed, model, material.tokenizer)
    found: dict[str, Checked] = {}
    shared: dict[str, tuple[Claim, Evidence, Pin, Path | None]] = {}
    for claim in claims(parsed, specification):
        evidence = parsed.evidence[claim.unit]
        if workers is not None and get_backend(evidence.backend).parallel:
            shared[claim.unit] = (claim, evidence, material.pin(claim.unit), keys)
            continue
        progress(f"{claim.unit}: {evidence.backend}")
        found[claim.unit] = _check_evidence(model, claim, evidence, material.pin(claim.unit), keys)
    if workers is not None:
        found.update(workers.each(_check_evidence, shared))
    _check_srs(found, policy)
    if set(found) != set(specification.units()):
        raise PolicyViolation("not every unit of the model was checked")
    checked = {unit: found[unit] for unit in specification.units()}
    # (9), second half, is done: `claims` gave the generated ids to the head as its output.
    assumptions = sorted({a for c in checked.values() for a in c.assumptions})
    report = Report(
        statement=parsed.statement,
        prompt=parsed.prompt,
        read=read,
        completion=parsed.completion,
        units=checked,
        assumptions=tuple(assumptions),
        request=request,
        bundle=sha256(data),
        size=len(data),
    )
    # (11) Units that bind no nonce show the same statement, named by the digests of its boundaries.
    if request.nonce is not None and policy.freshness != "unbound" and not report.fresh:
        raise PolicyViolation(
            "nonce: no unit's evidence binds it, so anybody may have put it into the bundle",
            hint="let sumcheck prove a unit; a policy that says "
            'freshness = "unbound" has the nonce compared only',
            clause="the bundle does not show that it answers this request",
        )
    return report


def claims(bundle: Bundle, specification: Specification) -> Iterator[Claim]:
    """What has to be shown of every unit, in order, so that the statement holds."""
    statement = bundle.statement
    digest = statement.digest
    boundaries = iter(bundle.boundaries)
    current = np.array(statement.input_ids(specification.pad_id), dtype=np.int64)
    units = specification.units()
    if isinstance(next(iter(units.values())).input, Rows):
        current = next(boundaries)
    for name, unit in units.items():
        if isinstance(unit.output, Ids):
            generated = np.array(statement.generated_ids, dtype=np.int64)
            yield Claim(name, current, generated, digest, len(statement.prompt_ids) - 1)
            continue
        output = next(boundaries)
        yield Claim(name, current, output, digest)
        current = output


def check_run(bundle: Bundle, model: ExactModel, tokenizer: Tokenizer | None) -> str:
    """(6), (9) and (10) as far as they need no evidence: ranges, and text against ids.

    `tokenizer` is None for a fragment. Returns the prompt as the tokenizer reads it, empty for a
    fragment. Raises `StatementMismatch`; a prover should know before it spends anything.
    """
    with meaning("these numbers cannot be of a run of this model"):
        _check_ranges(bundle, model.specification)
    if tokenizer is None:
        return ""
    with meaning("the text is not what the ids say"):
        _check_prompt(bundle, tokenizer)
        _check_completion(bundle, tokenizer)
    return tokenizer.decode(bundle.statement.prompt_ids)


def _check_ranges(bundle: Bundle, specification: Specification) -> None:
    """(6): every integer stays within the bound that the specification proves for it."""
    for i, bound in enumerate(specification.boundary_bounds()):
        beyond = first_beyond(bundle.boundaries[i], bound)
        if beyond:
            raise StatementMismatch(f"boundary[{i}]: {beyond}")


def _check_policy(
    bundle: Bundle, policy: Policy, request: Request, specification: Specification
) -> None:
    """(5), first half: what the policy demands of the evidence, and of whoever asks."""
    if policy.freshness == "required" and request.nonce is None:
        raise PolicyViolation(
            "the policy requires freshness, and no nonce was given",
            hint="give the nonce that the prover was given: --nonce N",
            clause="whether the bundle is new cannot be told",
        )
    for unit in specification.units():
        demanded = policy.units[unit]
        if unit not in bundle.evidence:
            raise PolicyViolation(
                f"{unit}: the policy demands {demanded}, the bundle has nothing",
                hint=""
                if bundle.evidence
                else "a trace has no evidence: prove it with zkllm prove",
            )
        if bundle.evidence[unit].backend != demanded:
            raise PolicyViolation(
                f"{unit}: the policy demands {demanded}, got {bundle.evidence[unit].backend}"
            )


def _check_request(bundle: Bundle, request: Request) -> None:
    """(5), second half: what the request demands of the statement."""
    statement = bundle.statement
    if request.nonce is not None and statement.nonce != request.nonce:
        raise StatementMismatch(f"nonce: expected {request.nonce!r}, got {statement.nonce!r}")
    if request.prompt is not None and bundle.prompt != request.prompt:
        raise StatementMismatch(
            f"prompt: expected {request.prompt!r:.80}, got {bundle.prompt!r:.80}"
        )
    if request.max_new_tokens not in (None, statement.max_new_tokens):
        raise StatementMismatch(
            f"max_new_tokens: expected {request.max_new_tokens}, got {statement.max_new_tokens}"
        )


def _check_prompt(bundle: Bundle, tokenizer: Tokenizer) -> None:
    """(9), first half: the prompt ids are the tokenizer's for the prompt."""
    count = len(bundle.statement.prompt_ids)
    # megabytes of text would take gigabytes to encode, only to give other ids than these few
    if len(bundle.prompt) > room(count):
        raise StatementMismatch(
            f"prompt: at most {room(count)} characters expected for {count} tokens, "
            f"got {len(bundle.prompt)}"
        )
    try:
        ids = tokenizer.encode(bundle.prompt)
    except InputError as err:
        raise StatementMismatch(f"prompt: {err.message}") from err
    if ids != bundle.statement.prompt_ids:
        raise StatementMismatch(
            f"prompt_ids: the tokenizer gives {list(ids)!s:.80}, "
            f"the statement says {list(bundle.statement.prompt_ids)!s:.80}"
        )


def _check_completion(bundle: Bundle, tokenizer: Tokenizer) -> None:
    """(10): the completion is what the generated ids add to the text of the prompt's."""
    statement = bundle.statement
    try:
        text = tokenizer.completion(statement.prompt_ids, statement.generated_ids)
    except InputError as err:
        raise StatementMismatch(f"completion: {err.message}") from err
    if text != bundle.completion:
        raise StatementMismatch(
            f"completion: the ids decode to {text!r:.80}, the bundle says {bundle.completion!r:.80}"
        )


def _check_evidence(
    model: ExactModel, claim: Claim, evidence: Evidence, pin: Pin, keys: Path | None
) -> Checked:
    """(8) for one unit."""
    unit = claim.unit
    with own_mistakes(DigestMismatch), meaning(f"the proof of {unit} does not fit this run"):
        try:
            return get_backend(evidence.backend).verify(claim, evidence.data, model, pin, keys)
        except VerificationError as err:
            if err.message.startswith(f"{unit}:"):
                raise
            raise type(err)(f"{unit}: {err.message}", err.hint, err.clause) from err


def _check_srs(found: Mapping[str, Checked], policy: Policy) -> None:
    """(8): a development SRS only where the policy says so."""
    for unit, checked in found.items():
        if INSECURE_ASSUMPTION in checked.assumptions and not policy.insecure_srs:
            raise UntrustedMaterial(
                f"{unit}: the policy pins a development SRS without allowing it",
                hint='whoever made it can forge proofs; `srs = "insecure-development"` accepts it',
                clause="the policy does not accept what this proof rests on",
            )
