"""What all verbs of the command line share: errors as one message, the log, an output for programs."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import typer

from fgsam.engine.job import own_rank

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAULT = 2
EXIT_INTERRUPTED = 130

EXPECTED_ERRORS = (ValueError, TypeError, OSError, RuntimeError, FloatingPointError, MemoryError)


def reported(verb: Callable[P, R]) -> Callable[P, R]:
    """Turn errors that a user can mend into one message and an exit code."""

    @functools.wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except BrokenPipeError:
            raise
        except KeyboardInterrupt:
            say("Stopped. Give the same command again to go on where it ended.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            from fgsam.engine.interrupts import Interrupted

            if isinstance(error, Interrupted):
                say(str(error))
                raise typer.Exit(EXIT_INTERRUPTED) from None
            place = _foreign_place(error)
            is_ours = place is None and not isinstance(error, EXPECTED_ERRORS)
            if is_ours or os.environ.get("FGSAM_TRACEBACK") == "1":
                raise
            text = _message(error) if place is None else _foreign_message(error, *place)
            if own_rank() and _is_told_here(error):
                print(f"Error on rank {own_rank()}: {text}", file=sys.stderr)
            say(f"Error: {text}")
            raise typer.Exit(EXIT_FAULT) from None

    return wrapped


def say(text: str) -> None:
    """Print on standard error; of the ranks of a job the first one speaks for all."""
    if not own_rank():
        print(text, file=sys.stderr)


@contextlib.contextmanager
def shown_log() -> Iterator[None]:
    """Send the package's log to standard error while a verb works; of the ranks of a job only the first one's."""
    handler = logging.NullHandler() if own_rank() else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("fgsam")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.contextmanager
def output_for_json(as_json: bool) -> Iterator[None]:
    """Keep standard output free of anything but the JSON object."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def _is_told_here(error: Exception) -> bool:
    """Whether an error of another rank than the first is not, or perhaps not, told by that one."""
    from fgsam.engine.team import RankError
    from fgsam.optim.ranks import LostRankError

    return isinstance(error, RankError | LostRankError)


def _foreign_place(error: BaseException) -> tuple[str, int] | None:
    """The file and line of the user's own code that an error came through, if it came through any."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if file.is_absolute() and not _is_installed(file):
            return str(file), line
    return None


def _is_installed(file: Path) -> bool:
    folders = (Path(__file__).parent, Path(sysconfig.get_path("stdlib")))
    # PyTorch Geometric writes code of its layers into temporary files.
    is_generated = file.name.startswith("torch_geometric.")
    is_package = not {"site-packages", "dist-packages"}.isdisjoint(file.parts)
    return is_generated or is_package or any(file.is_relative_to(folder) for folder in folders)


def _foreign_message(error: BaseException, file: str, line: int) -> str:
    return (
        f"Expected {file} to run, line {line} (got {type(error).__name__}: {_message(error)}). "
        "Set FGSAM_TRACEBACK=1 to see the whole traceback."
    )


def _message(error: BaseException) -> str:
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"Expected the run to fit into memory ({error}). Choose a smaller graph or smaller sizes."
    if isinstance(error, OSError) and error.strerror:
        # The system's own errors begin with a number; ours are sentences.
        return error.strerror if error.filename is None else f"{error.strerror}: '{error.filename}'"
    # What torch adds about its own C++ code helps nobody here.
    return str(error).partition("\nException raised from ")[0] or type(error).__name__
