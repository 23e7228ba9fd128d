"""What token issuers need beside their documents: judged with them, and filled in before anybody is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controlplane.intake.judging import Judge, policy_folder_named
from controlplane.intake.sources import Sources
from controlplane.tokens.needs import IssuerNeeds, with_needs
from controlplane.tokens.secrets import SecretFileError, read_secret
from ringfence.kit.clock import SystemClock
from ringfence.kit.watch import ContentReader
from ringfence.policy.bound import BoundPolicy
from ringfence.policy.model import Introspection, TokenIssuer
from ringfence.policy.tokens import read_key_set
from tests.jwts import ec_key, key_set, public
from tests.mesh_files import MeshFolder

HEAD = "apiVersion: ringfence.io/v1alpha1\nkind: TokenIssuer\nmetadata: {name: login, namespace: shop}\nspec:\n"
COMMON = HEAD + "  issuer: https://login.example.org/\n  audiences: [orders]\n"
RULES = "tokenIssuers: {allowedHosts: [login.example.org]}"


def judged(tmp_path: Path, text: str, extra: str = RULES, secret: str = "") -> tuple[IssuerNeeds | None, list[str]]:
    folder = MeshFolder(tmp_path, extra=extra)
    (folder.policies / "login.yaml").write_text(text)
    if secret:
        (folder.policies / "secret").write_text(secret)
        (folder.policies / "secret").chmod(0o600)
    files = Sources(
        folder.mesh_file, ContentReader(clock=SystemClock(), limit_bytes=1 << 20), policy_folder_named
    ).read()
    configuration, problems = Judge().judge(files)
    told = [str(problem).replace(str(tmp_path), "") for problem in problems if problem.is_error]
    return (configuration.issuer_needs if configuration else None), told


def test_an_inline_key_set_is_kept_in_its_plain_form(tmp_path: Path) -> None:
    needs, problems = judged(tmp_path, COMMON + f"  jwks: {{inline: '{key_set(public(ec_key(), x5c=['AA']))}'}}\n")
    assert not problems
    assert needs is not None
    assert needs.inline == {"shop/login": read_key_set(key_set(ec_key())).text}


def test_a_key_set_by_url_needs_an_allowed_host(tmp_path: Path) -> None:
    url = COMMON + "  jwks: {url: 'https://login.example.org/keys'}\n"
    needs, problems = judged(tmp_path, url)
    assert not problems
    assert needs is not None
    assert needs.urls == {"shop/login": "https://login.example.org/keys"}


@pytest.mark.parametrize(
    ("jwks", "extra", "says"),
    [
        ("url: 'https://evil.example/keys'", RULES, "/policies/login.yaml:7:15: host evil.example is not among"),
        (
            "url: 'https://login.example.org/keys'",
            "tracing: {endpoint: 'http://127.0.0.1:1'}",
            "tokenIssuers.allowedHosts",
        ),
        ("url: 'http://127.0.0.1:8080/keys'", RULES, "is an address"),
        ("inline: '{}'", RULES, "/policies/login.yaml:7:18: the key set has no list"),
        (f"inline: '{key_set(ec_key().as_dict(private=True))}'", RULES, "is a secret"),
        (
            "url: 'https://login.example.org/keys'",
            "tokenIssuers: {allowedHosts: [login.example.org], caFile: nowhere.pem}",
            "/mesh.yaml:6:17: caFile /nowhere.pem holds no certificates: No such file",
        ),
    ],
)
def test_keys_that_nobody_may_have_refuse_the_change(tmp_path: Path, jwks: str, extra: str, says: str) -> None:
    needs, problems = judged(tmp_path, COMMON + f"  jwks: {{{jwks}}}\n", extra)
    assert needs is None
    assert len(problems) == 1
    assert says in problems[0]


ASKED = "  introspection: {url: 'https://login.example.org/i', clientId: orders, secretFile: secret}\n"


def test_a_secret_is_read_beside_its_document_and_never_shown(tmp_path: Path) -> None:
    needs, problems = judged(tmp_path, COMMON + ASKED, secret="very-secret\n")
    assert not problems
    assert needs is not None
    assert needs.secrets == {"shop/login": "very-secret"}
    assert "very-secret" not in repr(needs)


@pytest.mark.parametrize("by", ["path", "dots", "link"])
def test_a_document_names_no_secret_of_the_control_plane(tmp_path: Path, by: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    own = state / "token"
    own.write_text("of the control plane")
    own.chmod(0o600)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "link").symlink_to(own)
    named = {"path": str(own), "dots": "../state/token", "link": "link"}[by]
    document = COMMON + ASKED.replace("secretFile: secret", f"secretFile: {named}")
    needs, problems = judged(tmp_path, document)
    assert needs is None
    assert problems[0].startswith("/policies/login.yaml:7:")
    assert "does not lie in the folder of its document" in problems[0]
    rules = "tokenIssuers: {allowedHosts: [login.example.org], secretFolders: [state]}"
    needs, problems = judged(tmp_path, document, rules)
    assert not problems
    assert needs is not None
    assert needs.secrets == {"shop/login": "of the control plane"}


def test_a_secret_that_is_not_there_refuses_the_change(tmp_path: Path) -> None:
    needs, problems = judged(tmp_path, COMMON + ASKED)
    assert needs is None
    assert problems[0].startswith("/policies/login.yaml:7:")
    assert "cannot be read" in problems[0]


def test_an_issuer_that_is_asked_needs_an_allowed_host(tmp_path: Path) -> None:
    needs, problems = judged(tmp_path, COMMON + ASKED.replace("login.example", "evil.example"), secret="s")
    assert needs is None
    assert "not among the allowed" in problems[0]


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620, 0o666])
def test_a_secret_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "secret"
    file.write_text("s")
    file.chmod(mode)
    with pytest.raises(SecretFileError, match="open to others"):
        read_secret(file)


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"\xff", b"a\x00", b"a" * 2049])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(SecretFileError, match="holds no secret"):
        read_secret(file)


def test_a_pipe_does_not_hold_the_control_plane_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secret", 0o600)
    with pytest.raises(SecretFileError, match="is no file"):
        read_secret(tmp_path / "secret")


def test_issuers_get_what_was_fetched_and_nothing_else() -> None:
    by_url = TokenIssuer(name="shop/a", issuer="a", audiences=("x",))
    inline = TokenIssuer(name="shop/b", issuer="b", audiences=("x",), keys="raw")
    opaque = TokenIssuer(
        name="shop/c", issuer="c", audiences=("x",), introspection=Introspection(url="u", client_id="c", secret="")
    )
    needs = IssuerNeeds(inline={"shop/b": "plain"}, urls={"shop/a": "url"}, secrets={"shop/c": "s"})
    policies = {"shop/orders": BoundPolicy(issuers=(by_url, inline, opaque)), "shop/web": BoundPolicy()}
    a, b, c = with_needs(policies, needs, {"url": "keys", "other": "others"})["shop/orders"].issuers
    assert (a.keys, b.keys, c.introspection and c.introspection.secret) == ("keys", "plain", "s")
    assert with_needs(policies, needs, {})["shop/orders"].issuers[0].keys == ""
