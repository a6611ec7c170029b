"""What the package asks for: extras that messages name are there, `all` is all of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import itk_ncr
from itk_ncr.errors import MissingDependencyError

ROOT = Path(__file__).parents[1]
tomllib = pytest.importorskip("tomllib")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def named_extras(text: str) -> set[str]:
    lists = re.findall(r"itk_ncr\[([a-z,]+)\]", text)
    return {name for words in lists for name in words.split(",")}


def test_only_a_checkout_brings_the_experiments_of_the_paper():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["scikit-build"]
    assert build["wheel"]["packages"] == ["itk_ncr"]
    (checkout,) = (row for row in build["overrides"] if row["if"] == {"state": "editable"})
    assert all((ROOT / name / "__init__.py").is_file() for name in checkout["wheel"]["packages"])
    assert "itk_ncr_reproduction" in checkout["wheel"]["packages"]


def test_the_extra_all_is_all_of_them_but_the_viewer():
    assert named_extras(EXTRAS["all"][0]) == set(EXTRAS) - {"all", "dev", "docs", "napari"}


def test_napari_finds_the_manifest_and_what_it_names():
    yaml = pytest.importorskip("yaml")
    module, file = PROJECT["entry-points"]["napari.manifest"]["itk_ncr"].split(":")
    text = (ROOT / Path(*module.split(".")) / file).read_text()
    contributions = yaml.safe_load(text)["contributions"]
    for command in contributions["commands"]:
        home, name = command["python_name"].split(":")
        source = (ROOT / Path(*home.split("."))).with_suffix(".py").read_text()
        assert re.search(rf"^(class|def) {name}\b", source, re.MULTILINE), command
    commands = {command["id"] for command in contributions["commands"]}
    used = [row["command"] for kind in ("widgets", "readers") for row in contributions[kind]]
    assert set(used) == commands


def test_every_extra_that_is_named_is_there():
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("itk_ncr*/**/*.py")):
        assert named_extras(page.read_text(encoding="utf-8")) <= set(EXTRAS), page


def test_the_version_is_the_same_everywhere():
    cited = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", cited, re.MULTILINE)[1] == PROJECT["version"]
    assert itk_ncr.__version__ == PROJECT["version"]


def test_the_citation_is_that_of_the_readme():
    yaml = pytest.importorskip("yaml")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license"} <= set(cited)
    readme = " ".join((ROOT / "README.md").read_text().split())
    paper = cited["preferred-citation"]
    assert paper["doi"] in readme
    assert f"{paper['volume']}, {paper['start']}-{paper['end']}, {paper['year']}" in readme
    assert all(author["family-names"] in readme for author in paper["authors"])


def test_links_of_the_readme_are_absolute_in_a_package_index(tmp_path, monkeypatch):
    pytest.importorskip("hatch_fancy_pypi_readme")
    build = pytest.importorskip("scikit_build_core.build")
    monkeypatch.chdir(ROOT)
    name = build.prepare_metadata_for_build_wheel(str(tmp_path))
    text = (tmp_path / name / "METADATA").read_text(encoding="utf-8")
    assert "Description-Content-Type: text/markdown" in text
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", readme)
    shown = re.findall(r"\]\(([^)]+)\)", text[text.index("\n\n") :])
    source = PROJECT["urls"]["Source"]
    assert len(shown) == len(links) > 15
    for link, address in zip(links, shown, strict=True):
        assert address == link or address in (f"{source}/{link}", f"{source}/raw/{link}")
        assert re.match("https?:|#", address)
        assert ":" in link or link.startswith("#") or (ROOT / link).exists()


def test_a_release_is_tagged_with_its_version():
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("once is enough: in a checkout")
    words = [git, "-C", str(ROOT), "tag", "--points-at", "HEAD", "v*"]
    tags = subprocess.run(words, capture_output=True, text=True).stdout.split()
    assert tags in ([], [f"v{PROJECT['version']}"])


def test_addresses_of_the_project_stand_in_one_place():
    host = PROJECT["urls"]["Homepage"].split("/")[2]
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.md")]
    assert not [page.name for page in pages if host in page.read_text(encoding="utf-8")]


def test_what_draws_the_report_is_no_extra():
    needed = {re.split(r"[><=\[]", line)[0].lower() for line in PROJECT["dependencies"]}
    assert {"jinja2", "pillow"} <= needed
    assert not any(name.startswith("itk-") for name in needed)


def test_the_stage_of_a_pipeline_without_itk_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "itk", None)
    monkeypatch.delitem(sys.modules, "itk_ncr.filters.registration_filter", raising=False)
    with pytest.raises(MissingDependencyError, match=r"pip install 'itk_ncr\[itk\]'"):
        _ = itk_ncr.NCRRegistrationFilter
