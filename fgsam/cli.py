"""The command line. Every verb calls functions of the package and prints what they return."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

import fgsam.cli_compare
import fgsam.cli_plan
from fgsam.cli_data import data_app
from fgsam.cli_report import output_for_json, reported, shown_log
from fgsam.engine.job import own_rank

if TYPE_CHECKING:
    from fgsam.engine.config import RunConfig
    from fgsam.engine.run import NodeRun, Run

# Only what every verb needs is imported above: torch takes seconds, and `--help` must not.

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
config_app = typer.Typer(help="Look at configs.", rich_markup_mode=None, no_args_is_help=True)
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
    try:
        app()
    finally:
        # All is told: torchrun's wish to end what is ending by itself would only be a traceback more.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    """Few-shot node classification on graphs with sharpness-aware optimizers."""
    if version:
        from fgsam import __version__

        print(__version__)
        raise typer.Exit


@app.command()
@reported
def run(
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be computed; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    floors: Annotated[
        bool | None,
        typer.Option(
            "--floors/--no-floors", help="Show methods without training beside a few-shot learner [default: floors]."
        ),
    ] = None,
    callback: Annotated[
        list[str] | None,
        typer.Option(help="Callback to tell about the training: tensorboard, or package.module:Class."),
    ] = None,
) -> None:
    """Learn few-shot episodes, or to classify nodes, on a graph, and test."""
    config = _load(settings)
    if floors and config.task != "few_shot":
        raise ValueError(f"Expected no --floors with task={config.task}: floors learn from episodes. Leave it out.")
    if dry_run:
        if not own_rank():
            _plan(config, as_json)
    else:
        _run(config, as_json, floors is not False, callback or [])


@app.command()
@reported
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
    tested = "episodes" if stored.task == "few_shot" else "nodes"
    rows = [
        (name, percent(score.accuracy, score.interval), getattr(score, f"num_{tested}"))
        for name, score in (("stored", then), ("now", now))
    ]
    print_table(["result", "test accuracy", tested], rows, numeric=["test accuracy", tested])
    if now != then:
        gap = 100 * (now.accuracy - then.accuracy)
        raise RuntimeError(
            f"Expected the stored result (got a difference of {gap:+.4f} points). "
            "Other versions, threads or another CPU change last digits; more means that something else changed."
        )
    print("The stored weights give the stored result.")


@app.command()
@reported
def advise(
    graph: Annotated[
        str, typer.Argument(metavar="GRAPH", help="A named graph, or the npz file of an own one.", show_default=False)
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SECTION.KEY=VALUE", help="Options of encoder and graph: encoder.hidden=64.", show_default=False
        ),
    ] = None,
    encoder: Annotated[str, typer.Option(help="A named encoder, or package.module:Class.")] = "gcn",
    seconds: Annotated[float, typer.Option(help="How long to measure.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure for a minute what speaks for which optimizer on a graph."""
    from fgsam.advice.advise import advise_config, config_of_texts

    with shown_log(), output_for_json(as_json):
        advice = advise_config(config_of_texts(graph, encoder, settings or []), seconds=seconds)
    print(json.dumps(advice.to_dict()) if as_json else advice)


@config_app.command("show")
@reported
def config_show(settings: Settings = None) -> None:
    """Show every option with its value, where the value comes from, and what it means."""
    from fgsam.cli_tables import print_table

    config = _load(settings)
    sources, texts = config.sources, config.descriptions
    rows = [(key, _written(value), sources[key], texts.get(key, "")) for key, value in config.flat().items()]
    print_table(["key", "value", "source", "meaning"], rows)


@app.command()
@reported
def optimizers() -> None:
    """List the optimizers."""
    from fgsam.cli_tables import optimizer_table, print_table

    print_table(*optimizer_table())


@app.command()
@reported
def methods() -> None:
    """List the few-shot learners."""
    from fgsam.cli_tables import learner_table, print_table

    print_table(*learner_table())


fgsam.cli_compare.register(app)
fgsam.cli_plan.register(app)


def _plan(config: RunConfig, as_json: bool) -> None:
    """Show what a run would compute: everything is made, and nothing is written."""
    from fgsam.cli_tables import print_table
    from fgsam.engine.config_model import FewShotConfig
    from fgsam.engine.plan import plan

    with shown_log(), output_for_json(as_json):
        directory = plan(config)
    unit = config.train.length  # num_episodes or num_steps
    length = getattr(config.train, unit) if config.is_trained else 0
    if as_json:
        content = {"run_dir": str(directory), unit: length, "config": config.resolved()}
        print(json.dumps(content))
        return
    print(config.to_yaml(), end="")
    rows = [("run directory", directory), (f"training {unit.removeprefix('num_')} at most", length)]
    if isinstance(config, FewShotConfig):
        rows += [
            ("validation episodes", config.train.val_episodes),
            ("test episodes", config.evaluate.num_episodes),
        ]
    print_table(["dry run", "nothing was written"], rows)


def _run(config: RunConfig, as_json: bool, with_floors: bool, callbacks: list[str]) -> None:
    from fgsam.engine.config_model import FewShotConfig
    from fgsam.engine.floors import run_floors
    from fgsam.engine.run import NodeRun, execute

    with shown_log(), output_for_json(as_json):
        found = execute(config, callbacks=callbacks)
        if own_rank():
            return  # the first rank shows the result
        floors = run_floors(config, execute) if with_floors and isinstance(config, FewShotConfig) else {}
    if as_json:
        figures = ("test_accuracy", "test_interval", "val_accuracy", "ms_per_episode", "run_dir")
        beside = {name: {key: floor.summary()[key] for key in figures} for name, floor in floors.items()}
        print(json.dumps({**found.summary(), "floors": beside}))
    elif isinstance(found, NodeRun):
        _print_nodes(found)
    else:
        _print_results(found, floors)


def _print_nodes(found: NodeRun) -> None:
    from fgsam.cli_tables import percent, print_table

    test, sizes, split = found.test, found.results["num_nodes"], found.results["split"]
    row = {
        "encoder": found.config["encoder"]["name"],
        "message passing": found.config["method"].get("message_passing"),
        "optimizer": found.config["optimizer"]["name"],
        "test accuracy": percent(test.accuracy, test.interval),
        "ROC AUC": None if test.roc_auc is None else percent(test.roc_auc),
        "ms a step": f"{found.timing['ms_per_step']:.1f}",
    }
    if test.roc_auc is None:
        del row["ROC AUC"]
    print_table(list(row), [list(row.values())], numeric=list(row)[3:])
    print(
        f"{split['kind'].capitalize()} split {split['name']} of {found.config['dataset']['name']}: {sizes['train']} "
        f"nodes train, {sizes['val']} choose, {sizes['test']} test; the 95 % interval is over test nodes."
    )
    print(f"Saved in {found.directory}")


def _print_results(found: Run, floors: dict[str, Run]) -> None:
    from fgsam.cli_tables import percent, print_table
    from fgsam.engine.floors import difference

    columns = ["method", "optimizer", "test accuracy", "balanced accuracy", "ms an episode"]
    rows = []
    for run in (found, *floors.values()):
        optimizer = run.config["optimizer"]["name"] if run.results["is_trained"] else None
        scores = [
            None if score is None else percent(score.accuracy, score.interval) for score in (run.test, run.balanced)
        ]
        rows.append([run.config["method"]["name"], optimizer, *scores, f"{run.timing['ms_per_episode']:.1f}"])
    if found.balanced is None:  # classes have equally many queries, so that it is the test accuracy
        columns, rows = columns[:3] + columns[4:], [row[:3] + row[4:] for row in rows]
    print_table(columns, rows, numeric=columns[2:])
    episode = found.config["episode"]
    print(
        f"{episode['n_way']}-way {episode['k_shot']}-shot on {found.config['dataset']['name']}: mean of "
        f"{found.test.num_episodes} test episodes, the same for all, with the 95 % interval over episodes."
    )
    if "validated_on" in found.results:
        print(
            f"The split has no validation classes: weights and settings were chosen on {found.results['validated_on']}."
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


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
