"""docs/policy-checks.md: its example prints what it says, and what it lists is told as it lists it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from controlplane.policy.commands import policy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy-checks.md").read_text()
[EXAMPLE] = re.findall(r"```yaml\n((?:.*\n)*?)```", PAGE)
[(WORDS, OUTPUT, STATUS)] = re.findall(r"```console\n\$ ringfence policy (.*)\n((?:.*\n)*?)\[(\d)\]\n```", PAGE)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "examples" / "shop", tmp_path / "shop")
    monkeypatch.chdir(tmp_path / "shop")
    Path("more.yaml").write_text(EXAMPLE)
    return tmp_path / "shop"


def test_the_example_prints_what_the_page_says(shop: Path) -> None:
    result = CliRunner().invoke(policy, WORDS.split())
    assert (result.output, result.exit_code) == (OUTPUT, int(STATUS))


def test_json_has_the_keys_that_the_page_names(shop: Path) -> None:
    document = json.loads(CliRunner().invoke(policy, [*WORDS.split(), "--json"]).stdout)
    for name in (*document, *document["problems"][0]):
        assert f"`{name}`" in PAGE, name
