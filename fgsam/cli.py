"""The command line. Every verb calls functions of the package and prints what they return."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from fgsam.engine.config import RunConfig
    from fgsam.engine.run import Run

# Only what every verb needs is imported above: torch takes seconds, and `--help` must not.

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAULT = 2
EXIT_INTERRUPTED = 130

EXPECTED_ERRORS = (ValueError, TypeError, OSError, RuntimeError, FloatingPointError, MemoryError)

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
config_app = typer.Typer(help="Look at configs.", rich_markup_mode=None, no_args_is_help=True)
data_app = typer.Typer(help="Look at graphs.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CONFIG SECTION.KEY=VALUE",
        help="A YAML file or the name of one that comes with the package (quickstart when not given), and overrides.",
        show_default=False,
    ),
]


def main() -> None:
    """Run the command line."""
    # SIGTERM before or after training ends the process as Ctrl-C does; during training the engine has its own way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without ± shall not cost the result of a run
            stream.reconfigure(errors="replace")
    # A module beside the config can be named in it, as with `python -m fgsam`; installed packages come first.
    if os.getcwd() not in sys.path and not sys.flags.safe_path:
        sys.path.append(os.getcwd())
    app()


def _reported(verb: Callable[P, R]) -> Callable[P, R]:
    """Turn errors that a user can mend into one message and an exit code."""

    @functools.wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except BrokenPipeError:
            raise
        except KeyboardInterrupt:
            _say("Stopped. Give the same command again to go on from the last checkpoint.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            from fgsam.engine.interrupts import Interrupted

            if isinstance(error, Interrupted):
                _say(str(error))
                raise typer.Exit(EXIT_INTERRUPTED) from None
            place = _foreign_place(error)
            is_ours = place is None and not isinstance(error, EXPECTED_ERRORS)
            if is_ours or os.environ.get("FGSAM_TRACEBACK") == "1":
                raise
            _say(f"Error: {_message(error) if place is None else _foreign_message(error, *place)}")
            raise typer.Exit(EXIT_FAULT) from None

    return wrapped


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    """Few-shot node classification on graphs with sharpness-aware optimizers."""
    if version:
        from fgsam import __version__

        print(__version__)
        raise typer.Exit


@app.command()
@_reported
def run(
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be computed; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    floors: Annotated[bool, typer.Option(help="Show methods without training beside the learner.")] = True,
    callback: Annotated[
        list[str] | None,
        typer.Option(help="Callback to tell about the training: tensorboard, or package.module:Class."),
    ] = None,
) -> None:
    """Learn few-shot episodes on a graph, and test."""
    config = _load(settings)
    if dry_run:
        _plan(config, as_json)
    else:
        _run(config, as_json, floors, callback or [])


@app.command()
@_reported
def evaluate(
    directory: Annotated[str, typer.Argument(metavar="RUN", help="Directory of a finished run.", show_default=False)],
) -> None:
    """Test the stored weights of a run once more."""
    import torch

    from fgsam.cli_tables import percent, print_table
    from fgsam.engine.run import load_run

    stored = load_run(directory)
    torch.set_num_threads(stored.config["run"]["threads"])
    now, then = stored.evaluate(), stored.test
    rows = [
        (name, percent(score.accuracy, score.interval), score.num_episodes)
        for name, score in (("stored", then), ("now", now))
    ]
    print_table(["result", "test accuracy", "episodes"], rows, numeric=["test accuracy", "episodes"])
    if now != then:
        gap = 100 * (now.accuracy - then.accuracy)
        raise RuntimeError(
            f"Expected the stored result (got a difference of {gap:+.4f} points). "
            "Other versions, threads or another CPU change last digits; more means that something else changed."
        )
    print("The stored weights give the stored result.")


@config_app.command("show")
@_reported
def config_show(settings: Settings = None) -> None:
    """Show every option with its value, where the value comes from, and what it means."""
    from fgsam.cli_tables import print_table

    config = _load(settings)
    sources, texts = config.sources, config.descriptions
    rows = [(key, _written(value), sources[key], texts.get(key, "")) for key, value in config.flat().items()]
    print_table(["key", "value", "source", "meaning"], rows)


@data_app.command("list")
@_reported
def data_list() -> None:
    """List the named graphs."""
    from fgsam.cli_tables import print_table
    from fgsam.data.card import load_card
    from fgsam.registry import DATASETS

    figures = ("num_nodes", "num_edges", "num_features", "num_classes")
    cards = [load_card(name) for name in DATASETS]
    rows = [(card.name, card.title, *(f"{getattr(card, figure):,}" for figure in figures)) for card in cards]
    heads = [figure.removeprefix("num_") for figure in figures]
    print_table(["name", "what it is", *heads], rows, numeric=heads)


@data_app.command("show")
@_reported
def data_show(name: Annotated[str, typer.Argument(metavar="NAME", help="A named graph.", show_default=False)]) -> None:
    """Show the card of a graph: source, licence, counts, digests, known faults."""
    from fgsam.assets import asset_folder
    from fgsam.registry import DATASETS

    DATASETS[name]
    print((asset_folder("datasets") / name / "card.yaml").read_text(encoding="utf-8"), end="")


@app.command()
@_reported
def optimizers() -> None:
    """List the optimizers."""
    from fgsam.cli_tables import paper, print_table, summary
    from fgsam.registry import OPTIMIZERS

    rows = []
    for name in OPTIMIZERS:
        rule = OPTIMIZERS.load(name)
        neutral = ", ".join(f"{key}={value}" for key, value in (rule.neutral or {}).items()) or None
        rows.append((name, summary(rule), rule.passes, rule.peer, neutral, paper(rule)))
    print_table(["name", "what it does", "passes a step", "peer", "equals its base with", "source"], rows)


@app.command()
@_reported
def methods() -> None:
    """List the few-shot learners."""
    from fgsam.cli_tables import paper, print_table, summary
    from fgsam.registry import METHODS

    entries = [(name, METHODS.load(name)) for name in METHODS]
    rows = [(name, summary(m), "yes" if m.is_trained else "no", paper(m)) for name, m in entries]
    print_table(["name", "what it does", "trained", "source"], rows)


def _plan(config: RunConfig, as_json: bool) -> None:
    """Show what a run would compute: everything is made, and nothing is written."""
    from fgsam.cli_tables import print_table
    from fgsam.engine.plan import plan

    with _logging(), _output_for_json(as_json):
        directory = plan(config)
    num_episodes = config.train.num_episodes if config.is_trained else 0
    if as_json:
        content = {"run_dir": str(directory), "num_episodes": num_episodes, "config": config.resolved()}
        print(json.dumps(content))
        return
    print(config.to_yaml(), end="")
    rows = [
        ("run directory", directory),
        ("training episodes at most", num_episodes),
        ("validation episodes", config.train.val_episodes),
        ("test episodes", config.evaluate.num_episodes),
    ]
    print_table(["dry run", "nothing was written"], rows)


def _run(config: RunConfig, as_json: bool, with_floors: bool, callbacks: list[str]) -> None:
    from fgsam.engine.floors import run_floors
    from fgsam.engine.run import execute

    with _logging(), _output_for_json(as_json):
        found = execute(config, callbacks=callbacks)
        floors = run_floors(config, execute) if with_floors else {}
    if as_json:
        figures = ("test_accuracy", "test_interval", "val_accuracy", "ms_per_episode", "run_dir")
        beside = {name: {key: floor.summary()[key] for key in figures} for name, floor in floors.items()}
        print(json.dumps({**found.summary(), "floors": beside}))
    else:
        _print_results(found, floors)


def _print_results(found: Run, floors: dict[str, Run]) -> None:
    from fgsam.cli_tables import percent, print_table
    from fgsam.engine.floors import difference

    rows = []
    for run in (found, *floors.values()):
        optimizer = run.config["optimizer"]["name"] if run.results["is_trained"] else None
        accuracy = percent(run.test.accuracy, run.test.interval)
        rows.append((run.config["method"]["name"], optimizer, accuracy, f"{run.timing['ms_per_episode']:.1f}"))
    columns = ["method", "optimizer", "test accuracy", "ms an episode"]
    print_table(columns, rows, numeric=columns[2:])
    episode = found.config["episode"]
    print(
        f"{episode['n_way']}-way {episode['k_shot']}-shot on {found.config['dataset']['name']}: mean of "
        f"{found.test.num_episodes} test episodes, the same for all, with the 95 % interval over episodes."
    )
    name = found.config["method"]["name"]
    for floor, run in floors.items():
        gap = difference(found, run)
        if gap.accuracy < 0:
            text = percent(-gap.accuracy, gap.interval).removesuffix(" %")
            print(f"{name} is below the floor {floor} by {text} points: training did not pay here.")
    print(f"Saved in {found.directory}")


def _load(settings: list[str] | None) -> RunConfig:
    from fgsam.engine.config import load_config

    texts = list(settings or [])
    files = [text for text in texts if "=" not in text]
    if len(files) > 1:
        raise ValueError(
            f"Expected one config and overrides 'section.key=value' (got {', '.join(map(repr, files))} without '=')."
        )
    return load_config(files[0] if files else "quickstart", [text for text in texts if "=" in text])


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


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Send the package's log to standard error while a verb works."""
    handler = logging.StreamHandler()
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
def _output_for_json(as_json: bool) -> Iterator[None]:
    """Keep standard output free of anything but the JSON object."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield
