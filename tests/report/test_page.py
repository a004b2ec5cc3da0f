from __future__ import annotations

import base64
import hashlib
import html
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fgsam.comparison.grid import Arm, Cell, Part
from fgsam.comparison.results import Results
from fgsam.report.comparison import Comparison
from fgsam.report.page import page_html, write_page
from fgsam.report.tables import TABLES
from tests.needs import skip_unless_required
from tests.report.browser import Browser, find_chromium
from tests.report.made import CANDIDATES, made_results

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\"{{ 7 * 7 }}"
PARTS = (Part("cora, k_shot 1", "cora", {"episode.k_shot": 1}), Part("cora, k_shot 3", "cora", {"episode.k_shot": 3}))
ARMS = ("gpn/adam", "gpn/sam", "gpn/fgsam", "raw_lr")
ROWS = "[...document.querySelectorAll('#scores tbody tr')]"


def score(split: int, part: str, arm: str, seed: int, trial: int) -> float:
    """Accuracy in which every arm, part and split is told apart."""
    levels = {"gpn/adam": 60.0, "gpn/sam": 62.5, "gpn/fgsam": 61.25, "raw_lr": 55.0}
    return levels.get(arm, 50.0) + 10.0 * part.endswith("3") + (0.75 + 0.25 * levels.get(arm, 0.0) % 1) * split


def with_entries(results: Results) -> Results:
    """Arms made of the method and the optimizer that their labels name."""

    def filled(arm: Arm) -> Arm:
        method, _, optimizer = arm.label.partition("/")
        return replace(arm, entries={"method": method, "optimizer": optimizer} if optimizer else {"method": method})

    return replace(results, grid=replace(results.grid, arms=tuple(map(filled, results.grid.arms))))


def made(**changes: Any) -> Comparison:
    options = {"arms": ARMS, "parts": PARTS, "candidates": CANDIDATES, **changes}
    return Comparison(with_entries(made_results(score, **options)))


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take seconds, and have tests of their own."""
    monkeypatch.setattr("fgsam.report.page._pictures", lambda comparison: [])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(made(), tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    command = find_chromium()
    if command is None:
        skip_unless_required("needs Chromium, Debian's package 'chromium'", "FGSAM_REQUIRE_BROWSER")
    started = Browser(command, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


def test_every_value_of_the_tables_stands_in_the_page(text: str):
    results = made().results
    for name in ("findings", "scores", "differences", "variance", "settings"):
        table = TABLES[name](results)
        values = {column.text(value) for row in table.rows for column, value in zip(table.columns, row, strict=True)}
        assert not [value for value in values if f">{html.escape(value)}<" not in text], name
    assert f"<p>{html.escape(TABLES['findings'](results).notes[0])}</p>" in text


def test_every_number_links_to_runs_that_the_page_lists(text: str):
    cells = re.findall(r'<td class="number" data-key="[^"]*">(.*?)</td>', text)
    assert len(cells) > 50
    assert not [cell for cell in cells if not cell.startswith(("<a class=", "<svg"))]
    named = {number for numbers in re.findall(r'data-runs="([\d ]+)"', text) for number in numbers.split()}
    assert named == {str(number) for number in range(len(PARTS) * len(ARMS))}
    assert named == set(re.findall(r'<details id="runs-(\d+)"', text))


@pytest.mark.usefixtures("_no_figures")
def test_runs_are_named_relative_to_the_folder_that_holds_them(tmp_path: Path):
    text = page_html(made(folder=tmp_path / "study"))
    assert "<code>fgsam run study/runs/cora,k_shot1-gpn-sam-2-0-1/config.yaml</code>" in text
    assert str(tmp_path) not in text


def test_equal_results_give_equal_bytes(page: Path, tmp_path: Path):
    assert write_page(made(), tmp_path).read_bytes() == page.read_bytes()


def test_the_policy_allows_the_own_style_and_script_alone(text: str):
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    allowed = dict(rule.split(" ", 1) for rule in html.unescape(policy).split("; "))
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert allowed[f"{tag}-src"] == f"'sha256-{digest}'"
    assert allowed["default-src"] == "'none'"
    assert allowed["img-src"] == "data:"
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", text)


@pytest.mark.usefixtures("_no_figures")
def test_hostile_texts_stay_texts(tmp_path: Path):
    comparison = made(arms=(HOSTILE, "gpn/sam"), parts=(Part(HOSTILE, "cora"),), hypotheses=())
    results = comparison.results
    cell = Cell(0, HOSTILE, "gpn/sam", 0, 0)
    results = replace(results, grid=replace(results.grid, title=HOSTILE), failed={cell: HOSTILE})
    text = page_html(Comparison(results))
    assert text.count("<script>") == 1
    assert "<img src=x" not in text
    assert html.escape(HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text


@pytest.mark.usefixtures("_no_figures")
def test_what_failed_and_what_is_missing_is_said():
    failed = {Cell(1, PARTS[0].label, "gpn/sam", 0, 0): "ValueError: no <luck>"}
    text = page_html(made(failed=failed, missing=[Cell(2, PARTS[0].label, "gpn/adam", 0, 1)]))
    assert "failed: ValueError: no &lt;luck&gt;" in text
    assert "1 failed and 1 are not over" in text
    assert "<dt>Failed, not over</dt><dd>1, 1</dd>" in text


def test_a_page_without_any_finished_run_can_be_written():
    cells = made().results.records
    text = page_html(made(missing=list(cells)))
    assert f"{len(cells)} are not over" in text


@pytest.mark.usefixtures("_no_figures")
def test_a_single_split_has_no_interval_and_node_splits_have_their_name():
    text = page_html(made(splits=1, task="node_classification"))
    assert 'class="ends"' not in text
    assert "1 node split," in text
    assert ">undecided, n = 1<" in text


def test_versions_and_runs_are_told(text: str):
    assert "<dt>PyTorch</dt><dd>2.13.0</dd>" in text
    assert "<dt>Results version</dt><dd>1</dd>" in text
    assert "<dt>Runs</dt><dd>42 directories for 42 finished runs</dd>" in text


@pytest.mark.slow
def test_a_large_comparison_stays_below_a_megabyte():
    parts = [Part(f"graph_{number}, k_shot 3", f"graph_{number}") for number in range(4)]
    arms = [*(f"gpn/optimizer_{number}" for number in range(10)), "raw_lr", "sgc_prototype"]
    assert len(page_html(made(parts=parts, arms=arms, splits=20)).encode()) < 1_000_000


def test_without_jinja2_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(RuntimeError, match=r"Run: pip install 'fgsam\[report\]'"):
        write_page(made(), tmp_path)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_loads_silently_and_is_as_wide_as_its_window(browser: Browser, page: Path, width: int, dark: bool):
    browser.open(page, width=width, dark=dark, phone=width == 390)
    assert browser.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(22, 24, 26)" if dark else "rgb(252, 252, 250)"
    )
    assert browser.run("document.documentElement.scrollWidth") == width
    browser.run("document.querySelectorAll('details').forEach(list => { list.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run("[...document.images].every(image => image.naturalWidth > 0)")
    assert browser.problems() == []
    assert [address for address in browser.requests() if not address.startswith("data:")] == [page.as_uri()]


def test_rows_are_sorted_by_click_and_by_key(browser: Browser, page: Path):
    browser.open(page)
    keys = f"{ROWS}.map(row => Number(row.children[2].dataset.key))"
    heading = "#scores thead th:nth-child(3)"
    before = browser.run(keys)
    browser.click(f"{heading} button")
    assert browser.run(f"document.querySelector('{heading}').ariaSort") == "descending"
    assert browser.run(keys) == sorted(before, reverse=True) != before
    browser.press("Enter")
    assert browser.run(f"document.querySelector('{heading}').ariaSort") == "ascending"
    assert browser.run(keys) == sorted(before)
    browser.run("document.querySelector('#scores thead th:nth-child(2) button').focus()")
    browser.press(" ")
    assert browser.run(f"{ROWS}.map(row => row.children[1].textContent)") == sorted(
        [*ARMS[:3], "raw_lr (floor)"] * len(PARTS)
    )
    sorted_by = browser.run("[...document.querySelectorAll('#scores thead th')].map(heading => heading.ariaSort)")
    assert sorted_by[:3] == ["none", "ascending", "none"]


@pytest.mark.usefixtures("_no_figures")
def test_values_that_are_missing_come_last(browser: Browser, tmp_path: Path):
    missing = [Cell(split, PARTS[0].label, "gpn/sam", 0, 0) for split in range(3)]
    browser.open(write_page(made(missing=missing), tmp_path))
    last = f"{ROWS}.at(-1).children[2].textContent"
    for _ in range(2):
        browser.click("#scores thead th:nth-child(3) button")
        assert browser.run(last) == "–"  # noqa: RUF001  what tables print


def choose(browser: Browser, label: str, value: str) -> None:
    """Choose in a filter as a user does: with a change event."""
    script = """(label, value) => {
        const select = [...document.querySelectorAll("#filters label")].find(one => one.innerText.startsWith(label));
        const found = select.querySelector("select");
        found.value = [...found.options].find(option => option.text === value).value;
        found.dispatchEvent(new Event("change", { bubbles: true }));
    }"""
    browser.run(f"({script})({json.dumps(label)}, {json.dumps(value)})")


def shown(browser: Browser) -> list[str]:
    return browser.run(f"{ROWS}.filter(row => row.checkVisibility()).map(row => row.children[1].textContent)")


def test_filters_leave_what_was_asked_for_and_floors(browser: Browser, page: Path):
    browser.open(page)
    assert len(shown(browser)) == 8
    choose(browser, "k_shot", "3")
    assert shown(browser) == ["gpn/adam", "gpn/sam", "gpn/fgsam", "raw_lr (floor)"]
    choose(browser, "optimizer", "sam")
    assert shown(browser) == ["gpn/sam", "raw_lr (floor)"]
    assert re.fullmatch(r"\d+ of \d+ rows", browser.run("document.getElementById('count').textContent"))
    browser.click("#filters input")
    assert shown(browser) == ["gpn/sam"]
    browser.click("#filters button")
    browser.run("new Promise(done => setTimeout(done, 20))")
    assert len(shown(browser)) == 8
    assert browser.run("document.getElementById('count').textContent") == ""


def test_a_filter_that_fits_nothing_says_so(browser: Browser, page: Path):
    browser.open(page)
    choose(browser, "optimizer", "fgsam")
    is_told = "document.querySelector('#findings .none').checkVisibility()"
    assert browser.run(is_told)
    choose(browser, "optimizer", "all")
    assert not browser.run(is_told)


def test_a_number_opens_its_runs_and_the_command_that_repeats_them(browser: Browser, page: Path):
    browser.open(page)
    is_open = "document.getElementById('dialog').open"
    assert not browser.run(is_open)
    browser.click("#differences tbody tr:nth-child(2) td:nth-child(3) a")
    assert browser.run(is_open)
    headings = "[...document.querySelectorAll('#dialog h3')].map(one => one.textContent)"
    assert browser.run(headings) == ["gpn/adam, cora, k_shot 1", "gpn/fgsam, cora, k_shot 1"]
    commands = browser.run("[...document.querySelectorAll('#dialog code')].map(one => one.textContent)")
    assert len(commands) == 6
    assert "fgsam run runs/runs/cora,k_shot1-gpn-fgsam-0-0-1/config.yaml" in commands
    browser.click("#close")
    assert not browser.run(is_open)


def test_the_runs_of_a_number_open_and_close_by_key(browser: Browser, page: Path):
    browser.open(page)
    browser.run("document.querySelector('#scores tbody tr:nth-child(2) a').focus()")
    focused = "[document.activeElement.textContent, document.activeElement.dataset.runs]"
    before = browser.run(focused)
    browser.press("Enter")
    assert browser.run("document.querySelector('#dialog h3').textContent") == "gpn/sam, cora, k_shot 1"
    assert browser.run("document.getElementById('dialog').contains(document.activeElement)")
    browser.press("Escape")
    assert not browser.run("document.getElementById('dialog').open")
    assert browser.run(focused) == before == [browser.run(f"{ROWS}[1].children[2].textContent"), "1"]


def test_without_scripts_a_number_leads_to_its_list(browser: Browser, page: Path):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        browser.click("#scores tbody tr:nth-child(2) td:nth-child(3) a")
        assert browser.run("location.hash") == "#runs-1"
        assert browser.run("document.getElementById('filters').checkVisibility()") is False
        assert len(shown(browser)) == 8
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.usefixtures("_no_figures")
def test_hostile_texts_do_nothing_in_a_browser(browser: Browser, tmp_path: Path):
    comparison = made(arms=(HOSTILE, "gpn/sam"), parts=(Part(HOSTILE, "cora"),), hypotheses=())
    browser.open(write_page(comparison, tmp_path))
    browser.click("#scores tbody a")
    assert browser.run("document.getElementById('dialog').open")
    assert browser.run("window.hacked") is None
    assert browser.run(f"{ROWS}[0].children[0].textContent") == HOSTILE
    assert browser.problems() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_has_nothing_to_say(browser: Browser, page: Path, dark: bool):
    found = importlib.util.find_spec("axe_core_python")
    assert found is not None
    assert found.submodule_search_locations
    axe = Path(found.submodule_search_locations[0]) / "axe.min.js"
    # Wide enough for every table, and with all lists open: axe cannot judge the contrast of what is not in view.
    browser.open(page, width=2400, dark=dark)
    browser.run("document.querySelectorAll('details').forEach(list => { list.open = true; })")
    browser.run(f"{axe.read_text(encoding='utf-8')}; 0")
    told = "rules => rules.map(rule => [rule.id, rule.nodes.length, rule.nodes[0].html])"
    for place in ("document", "'#dialog'"):
        assert browser.run(f"axe.run({place}).then(found => [found.violations, found.incomplete].map({told}))") == [
            [],
            [],
        ]
        browser.click("#scores tbody a")
