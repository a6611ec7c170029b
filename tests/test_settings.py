"""Every setting is stated once: all doors show the same name, default and help."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import click
import pytest

import itk_ncr
from itk_ncr.cli import command_line
from itk_ncr.settings import SETTINGS, RegistrationSettings, SettingKeywords

GUIDE = Path(__file__).parents[1] / "docs" / "command-line.md"


def table() -> str:
    """The settings as the guide prints them."""
    rows = ["| setting | default | |", "|---|---|---|"]
    for name, setting in SETTINGS.items():
        default = "" if setting.default in (None, ()) else f"`{setting.default}`"
        rows.append(f"| `{name}` | {default} | {setting.help} |")
    return "\n".join(rows)


def test_the_guide_shows_the_settings_as_they_are():
    assert table() in GUIDE.read_text(), f"docs/command-line.md should have\n{table()}"


@pytest.mark.parametrize("command", ["register", "batch"])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_an_option_with_its_default_and_its_help(command, name):
    found = command_line.get_command(click.Context(command_line), command)
    options = {option.name: option for option in found.params}
    about, option = SETTINGS[name], options[name]
    if name == "affine":  # of one pair, a file too
        return
    assert option.help.startswith(about.help)
    if not about.optional and about.kind != "mapping":
        assert option.default == about.default
    if about.words:
        assert set(about.words) <= set(option.type.choices)
    if about.kind in ("int", "float") and about.most is not None:
        assert option.type.max == about.most


def test_register_takes_every_setting_by_its_name_and_default():
    parameters = inspect.signature(itk_ncr.register).parameters
    for name, setting in SETTINGS.items():
        assert parameters[name].default == setting.default
        assert f"{name} : " in itk_ncr.register.__doc__
    assert set(SettingKeywords.__annotations__) == SETTINGS.keys() - {"affine"}
    assert "{settings}" not in itk_ncr.register.__doc__ + RegistrationSettings.__doc__


def test_a_keyword_that_is_no_setting_is_refused(tmp_path):
    with pytest.raises(TypeError, match="smothness"):
        itk_ncr.register("a.nii", "b.nii", smothness=2)


def test_the_settings_are_known_without_torch():
    check = "import sys, itk_ncr.settings, itk_ncr.cli.options; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
