"""What is drawn on a terminal again and again."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Column
from rich.text import Text

from zkllm.wording import harmless

drawing = Console(highlight=False, emoji=False, stderr=True)


def can_draw() -> bool:
    """Whether stderr is a terminal on which a line can be drawn again."""
    return drawing.is_terminal and not drawing.is_dumb_terminal


class Turning:
    """A spinner and what is going on, in one row: what is taller leaves traces when it stops."""

    def __init__(self, line: str) -> None:
        self._spinner = Spinner(_spinner_name())
        self.tell(line)

    def tell(self, line: str) -> None:
        """Show `line` beside the spinner."""
        self._line = harmless(line)

    def live(self) -> Live:
        """The display of it."""
        # Redirected, what goes to stdout would come out on the terminal of stderr.
        return Live(
            self, console=drawing, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        frame = str(self._spinner.render(console.get_time()))
        yield Text.assemble((frame, "green"), " ", self._line, no_wrap=True, overflow="ellipsis")


def make_bar() -> Progress:
    """A bar in one row, with room for a line beside it."""
    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Progress(
        SpinnerColumn(_spinner_name()),
        BarColumn(24),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", table_column=rest),
        console=drawing,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        expand=True,
    )


def _spinner_name() -> str:
    return "dots" if drawing.encoding.startswith("utf") else "line"
