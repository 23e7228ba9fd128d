"""``ringfence policy diff``: what it prints, its JSON and its exit statuses."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from controlplane.intake.sources import PolicyFolder, SourceFiles
from controlplane.policy.commands import policy
from controlplane.policy.old_new import _extract
from controlplane.policy.running import RunningSources
from ringfence.kit.watch import FileContent

SHOP = Path(__file__).parents[2] / "examples" / "shop"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(policy, ["diff", *map(str, arguments), "--mesh", str(SHOP / "mesh.yaml")])


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    """The shop's policies, of which web may now place lines, and only web may ask how orders is."""
    folder = tmp_path / "candidate"
    shutil.copytree(SHOP / "policies", folder)
    orders = folder / "orders.yaml"
    text = orders.read_text()
    text = text.replace('paths: ["/orders"]', 'paths: ["/orders", "/orders/{id}/lines"]')
    orders.write_text(text.replace("- namespace: shop", "- spiffeId: spiffe://shop.example/ns/shop/sa/web"))
    return folder


def test_a_policy_does_not_differ_from_itself(tmp_path: Path) -> None:
    copy = shutil.copytree(SHOP / "policies", tmp_path / "copy")
    result = run(SHOP / "policies", copy)

    assert (result.exit_code, result.stdout.split(" (")[0]) == (0, "no call is judged otherwise")


def test_changes_are_told_with_their_callers_an_example_and_the_rules(candidate: Path) -> None:
    result = run(SHOP / "policies", candidate)

    assert result.exit_code == 1, result.output
    told = result.stdout.replace(f"{SHOP}/", "").replace(f"{candidate}/", "").splitlines()
    assert told[:6] == [
        "shop/orders",
        "  + permitted: shop/web",
        "      port 8080, path /orders/1/lines, method POST",
        "      for example: spiffe://shop.example/ns/shop/sa/web calls shop/orders:8080 POST /orders/1/lines",
        "      before: denied: path_not_allowed (nearest shop/orders-callers/web-reads, policies/orders.yaml:8)",
        "      after:  permitted by shop/orders-callers/web-places (orders.yaml:14)",
    ]
    denied = "  - denied: shop/ledger, shop/orders, shop/payments, any other identity of namespace shop of shop.example"
    assert denied in result.stdout
    assert "1 group of calls becomes permitted, 1 group of calls becomes denied, out of" in result.stdout


def test_json_has_every_change_with_its_example(candidate: Path) -> None:
    document = json.loads(run(SHOP / "policies", candidate, "--json").stdout)

    assert (document["differs"], document["services"]) == (True, ["shop/orders"])
    became = {change["became"]: change for change in document["changes"]}
    assert became["denied"]["example"]["path"] == "/healthz"
    assert became["denied"]["before"]["rule"] == "shop/orders-callers/health"
    assert became["denied"]["after"]["reason"] == "caller_not_allowed"
    assert {caller["label"] for caller in became["permitted"]["callers"]} == {"shop/web"}


def test_a_change_that_hangs_on_a_condition_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "candidate"
    shutil.copytree(SHOP / "policies", folder)
    with (folder / "orders.yaml").open("a") as orders:
        orders.write("      when: \"request.headers['x-debug'] == 'yes'\"\n")
    result = run(SHOP / "policies", folder)

    assert result.exit_code == 1, result.output
    assert "(no call was found" not in result.stdout
    assert "method GET, if \"request.headers['x-debug'] == 'yes'\" is false" in result.stdout
    assert "after:  denied: condition_not_met" in result.stdout


def test_reasons_alone_differ_only_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "candidate"
    shutil.copytree(SHOP / "policies", folder)
    with (folder / "payments.yaml").open("a") as payments:
        payments.write("    - name: web-never\n      from: [web]\n      when: 'false'\n")

    assert run(SHOP / "policies", folder).exit_code == 0
    result = run(SHOP / "policies", folder, "--reasons")
    assert result.exit_code == 1
    assert "  ~ reason: shop/web" in result.stdout
    assert "before: denied: caller_not_allowed" in result.stdout


def test_a_revision_of_a_repository_can_be_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.test", *arguments], check=True, cwd=tmp_path)

    shutil.copytree(SHOP / "policies", tmp_path / "policies")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "policies")
    (tmp_path / "policies" / "ledger.yaml").unlink()
    monkeypatch.chdir(tmp_path)

    result = run("git:HEAD:policies", "policies")
    assert result.exit_code == 1, result.output
    assert "  - denied: shop/payments" in result.stdout
    refused = run("git:nowhere:policies", "policies")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "git:nowhere:policies: fatal: " in refused.stderr


def test_an_archive_writes_nothing_outside_its_folder(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("policies/a.yaml", "../outside", str(tmp_path / "absolute"), "policies/../../up"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            archive.addfile(entry, io.BytesIO(b"x"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        through = tarfile.TarInfo("link/through")
        archive.addfile(through, io.BytesIO())
    root = tmp_path / "root"
    root.mkdir()
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        _extract(archive, root)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == [
        "link",
        "link/through",
        "policies",
        "policies/a.yaml",
    ]
    assert not (root / "link").is_symlink()


@pytest.mark.parametrize("old", ["git:HEAD", "git:--output=x:policies", "git::policies"])
def test_what_names_no_revision_is_refused(old: str) -> None:
    result = run(old, SHOP / "policies")

    assert result.exit_code == 2
    assert "names no revision and path (write it like git:main:policies)" in result.stderr


def test_bad_input_is_told_with_its_place_and_ends_with_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "apiVersion: ringfence.io/v1alpha1\nkind: Allowlst\nmetadata: {name: a, namespace: shop}\nspec: {}\n"
    )
    result = run(SHOP / "policies", bad)
    assert result.exit_code == 2
    assert f"{bad}:2:7: kind 'Allowlst' is not known here" in result.stderr
    missing = run(SHOP / "policies", tmp_path / "none")
    assert missing.exit_code == 2
    assert "there is no such file or folder" in missing.stderr


def test_what_runs_is_compared_as_its_control_plane_tells_it(
    tmp_path: Path, candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nobody = run("running", candidate)
    assert (nobody.exit_code, nobody.stdout) == (2, "")
    assert "give --state or --admin-socket" in nobody.stderr

    def running(socket: Path) -> RunningSources:
        assert socket == tmp_path / "admin.sock"
        mesh = FileContent(path=SHOP / "mesh.yaml", content=(SHOP / "mesh.yaml").read_bytes())
        files = tuple(
            FileContent(path=file, content=file.read_bytes()) for file in sorted((SHOP / "policies").iterdir())
        )
        return RunningSources(
            in_force=SourceFiles(mesh=mesh, policies=PolicyFolder(path=SHOP / "policies", files=files)), tried=None
        )

    monkeypatch.setattr("controlplane.policy.options.running_sources", running)
    (tmp_path / "admin.sock").touch()
    result = run("running", candidate, "--admin-socket", tmp_path / "admin.sock")
    assert result.exit_code == 1, result.stderr
    assert "  + permitted: shop/web" in result.stdout
