"""`zkllm run`."""

from __future__ import annotations

from pathlib import Path

import click

from zkllm import output
from zkllm.cli import options
from zkllm.engines.onnx.runtime import Device
from zkllm.files import refuse_overwriting
from zkllm.wording import bytes_text


@click.command("run")
@click.argument("model", type=options.PATH)
@click.option("-p", "--prompt", help="Text to continue; - reads it from standard input.")
@options.prompt_file("Text to continue, as it stands in FILE.")
@click.option("-n", "--new-tokens", type=int, default=1, show_default=True, help="At most so many.")
@click.option("--hidden", type=options.PATH, help="For a fragment: a .npy file of integer rows.")
@click.option("--pad", type=int, metavar="T", help="Fill up to the T positions of a circuit.")
@click.option("-o", "--output", "trace", type=options.PATH, metavar="TRACE", help="Keep the trace.")
@options.device
@options.force
@options.as_json
def command(
    model: Path,
    prompt: str | None,
    prompt_file: Path | None,
    new_tokens: int,
    hidden: Path | None,
    pad: int | None,
    trace: Path | None,
    device: Device,
    force: bool,
    as_json: bool,
) -> None:
    """Generate text with the exact model MODEL, greedily, on ONNX Runtime.

    The trace holds the ids and every boundary tensor; zkllm prove turns it into a bundle.

    \b
      zkllm run model -p "12+34=" -n 3 -o answer.trace
      zkllm run model --prompt-file question.txt -n 20
      zkllm run block5 --hidden rows.npy -o block5.trace
    """
    from zkllm import bundle, running
    from zkllm.exact.model import ExactModel
    from zkllm.hidden import read_hidden

    if (prompt is None and prompt_file is None) == (hidden is None):
        raise click.UsageError("give either --prompt TEXT (or --prompt-file) or --hidden FILE")
    if trace is not None:
        refuse_overwriting(trace, force=force)
    exact = ExactModel.from_folder(model)
    text = options.read_prompt(prompt, prompt_file)
    with output.spinner("running"):
        if hidden is not None:
            rows = read_hidden(hidden)
            result = running.run_fragment(
                exact,
                rows,
                device=device,
                pad_to=pad,
                note=output.note,
            )
        else:
            result = running.run(
                exact,
                text or "",
                new_tokens,
                device=device,
                pad_to=pad,
                note=output.note,
            )
    size = None if trace is None else bundle.save(result, exact.specification, trace)
    statement = result.statement
    if as_json:
        output.emit_json(
            {
                "completion": result.completion,
                "prompt": result.prompt,
                "statement": statement.to_json(),
                "trace": None if trace is None else str(trace),
            }
        )
    elif statement.kind == "text":
        output.text(result.prompt + result.completion)
    else:
        fragment = f"fragment of {statement.positions} rows: {statement.boundaries[-1]}"
        output.paragraph(output.out, "", fragment)
    if size is not None:
        output.note(f"trace of {bytes_text(size)} in {trace}")
