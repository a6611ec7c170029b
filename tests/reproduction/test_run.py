"""A whole reproduction in small, through the command line's own function."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from itk_ncr.cli import command_line
from itk_ncr.errors import ArgumentError
from itk_ncr_reproduction import command
from itk_ncr_reproduction.design import FIGURES, TABLES, Dealing
from itk_ncr_reproduction.document import write_reproduction
from itk_ncr_reproduction.run import reproduce


@pytest.fixture(scope="module")
def output(data, tiny, tmp_path_factory):
    """The folder of a reproduction."""
    folder = tmp_path_factory.mktemp("run") / "out"
    said = []
    found = reproduce(
        data, folder, tiny, tables=(2, 3), figures=(3, 5), workers=1, command="the command",
        progress=lambda share, text: said.append((share, text)),
    )  # fmt: skip
    page = write_reproduction(found, (2, 3), (3, 5))
    assert page == folder / "README.md"
    shares = [share for share, _ in said]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    return folder


def test_the_page_has_findings_tables_and_figures(output):
    page = (output / "README.md").read_text()
    for words in ("## Findings", "**Table 2.**", "**Table 3.**", "NCR-Net s, paper", "the command"):
        assert words in page
    for number in (3, 5):
        picture = output / "figures" / f"figure-{number}.png"
        assert picture.read_bytes()[:4] == b"\x89PNG"
        assert f"figures/{picture.name}" in page


def test_every_method_is_measured_on_every_case(output, tiny):
    rows = list(csv.DictReader((output / "measurements.csv").read_text().splitlines()))
    jaccard = [row for row in rows if row["figure"] == "jaccard"]
    assert not [row for row in rows if row["figure"] == "failed"]
    pairs = {row["pair"] for row in jaccard}
    assert 1 <= len(pairs) <= 2
    published = [row for row in jaccard if row["method"] == "instance"]
    assert len(published) == 5
    assert all(0 <= float(row["value"]) <= 1 for row in jaccard)
    # The solver aligns these discs, whatever two networks of three steps do.
    value = [float(row["value"]) for row in published]
    before = [float(r["value"]) for r in jaccard if r["method"] == "without"][: len(value)]
    assert sum(value) > sum(before)


def test_the_record_says_what_was_done(output, tiny):
    record = json.loads((output / "manifest.json").read_text())
    assert record["design"] == tiny.as_dict()
    assert len(record["data_hash"]) == 64
    assert record["times"]["training_cpu"] > 0
    assert record["command"] == "the command"
    assert str(output.parent) not in (output / "manifest.json").read_text()


def test_the_same_call_does_nothing_twice(output, data, tiny):
    models = {p: p.stat().st_mtime_ns for p in (output / "work").rglob("*.safetensors")}
    cases = {p: p.stat().st_mtime_ns for p in (output / "work" / "measurements").iterdir()}
    assert len(models) == 2 * 2  # weights and state of two networks
    lost = min(cases)
    lost.unlink()
    reproduce(data, output, tiny, tables=(2, 3), figures=(), workers=1)
    assert {p: p.stat().st_mtime_ns for p in models} == models
    assert lost.is_file()
    del cases[lost]
    assert {p: p.stat().st_mtime_ns for p in cases} == cases


def test_another_reproduction_in_the_same_folder_is_refused(output, data, tiny):
    other = replace(tiny, dealing=Dealing(10, 5, 7))
    with pytest.raises(ArgumentError, match="holds one with another design"):
        reproduce(data, output, other, workers=1)


def test_the_command_offers_the_tables_and_figures_of_the_design():
    assert command.TABLES == TABLES
    assert command.FIGURES == FIGURES


def test_bad_words_are_refused_in_one_line(data, tmp_path):
    for words, line in (
        (["--tables", "7"], "must list some of 1, 2, 3, 4"),
        (["--tables", "none", "--figures", "none"], "must ask for something"),
        (["--budget", "huge"], "--budget"),
    ):
        result = CliRunner().invoke(
            command_line, ["reproduce", str(data), "-o", str(tmp_path / "out"), *words]
        )
        assert result.exit_code == 2
        assert line in result.output
        assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
