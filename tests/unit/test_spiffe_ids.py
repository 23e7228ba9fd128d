"""SPIFFE IDs and trust domains: what is accepted, and beside each the neighbour that is refused."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

from ringfence.spiffe import (
    RESERVED_NAMESPACE,
    SpiffeId,
    SpiffeIdError,
    TrustDomain,
    control_plane_dns_name,
    control_plane_id,
)

SHOP = TrustDomain("shop.example")


@pytest.mark.parametrize("name", ["a", "shop.example", "10.0.0.1", "a_b-c.d", "x" * 255])
def test_trust_domain_keeps_its_name(name: str) -> None:
    assert str(TrustDomain(name)) == name
    assert TrustDomain.parse(f"spiffe://{name}") == TrustDomain.parse(name) == TrustDomain(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 256,
        "Shop.example",
        "shop.example\n",
        "shop example",
        "shop.example:80",
        "user@shop.example",
        "shop.example/",
        "shop%2eexample",
        "shöp.example",
        "shop.example\u200b",
        "\u212a.example",  # the Kelvin sign, whose lower case is k
        "ｓhop.example",
        "shop.example\x00",
        "*",
    ],
)
def test_trust_domain_refuses_any_other_name(name: str) -> None:
    with pytest.raises(SpiffeIdError):
        TrustDomain(name)


def test_trust_domain_is_read_in_any_case_and_held_in_lower() -> None:
    assert TrustDomain.parse("SPIFFE://Shop.EXAMPLE").name == "shop.example"


@pytest.mark.parametrize("text", ["\u212a.example", "spiffe://\u212a.example", "\u017fhop.example"])
def test_lowering_lets_no_look_alike_in(text: str) -> None:
    with pytest.raises(SpiffeIdError):
        TrustDomain.parse(text)


@pytest.mark.parametrize(
    "text", ["spiffe://shop.example/", "spiffe://shop.example/x", "https://shop.example", "spiffe:"]
)
def test_trust_domain_refuses_what_is_more_than_its_name(text: str) -> None:
    with pytest.raises(SpiffeIdError):
        TrustDomain.parse(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("spiffe://shop.example", ""),
        ("spiffe://shop.example/a", "/a"),
        ("spiffe://shop.example/ns/shop/sa/web", "/ns/shop/sa/web"),
        ("spiffe://shop.example/A.b-C_9/...", "/A.b-C_9/..."),
        ("SPIFFE://SHOP.example/Web", "/Web"),
        ("spiffe://shop.example/" + "a" * 2026, "/" + "a" * 2026),
    ],
)
def test_spiffe_id_is_read(text: str, path: str) -> None:
    spiffe_id = SpiffeId.parse(text)
    assert (spiffe_id.trust_domain, spiffe_id.path) == (SHOP, path)
    assert str(spiffe_id) == f"spiffe://shop.example{path}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe:",
        "spiffe:/shop.example/a",
        "spiffe://",
        "spiffe:///a",
        "http://shop.example/a",
        "shop.example/a",
        "spiffe://shop.example/",
        "spiffe://shop.example/a/",
        "spiffe://shop.example//a",
        "spiffe://shop.example/a//b",
        "spiffe://shop.example/.",
        "spiffe://shop.example/a/../b",
        "spiffe://shop.example/a?b",
        "spiffe://shop.example/a#b",
        "spiffe://shop.example?b",
        "spiffe://u@shop.example/a",
        "spiffe://shop.example:80/a",
        "spiffe://shop.example/%61",
        "spiffe://shop.example/a b",
        "spiffe://shop.example/a\n",
        "spiffe://shop.example/a\r\n",
        "spiffe://shop.example\n/a",
        "spiffe://shop.example/a\x00",
        "spiffe://shop.example/\u0430",  # Cyrillic a
        "spiffe://shop.example/\u0661",  # an Arabic digit, which \\d would take
        "spiffe://shop.example/a\\b",
        "spiffe://shop.example/*",
        "\u017fpiffe://shop.example/a",  # the long s, whose upper case is S
        " spiffe://shop.example/a",
        "spiffe://shop.example/" + "a" * 2027,
        "spiffe://" + "x" * 256 + "/a",
    ],
)
def test_spiffe_id_refuses_any_other_text(text: str) -> None:
    with pytest.raises(SpiffeIdError):
        SpiffeId.parse(text)


def test_error_shows_the_text_on_one_bounded_line() -> None:
    with pytest.raises(SpiffeIdError) as caught:
        SpiffeId.parse("spiffe://shop.example/\n" + "\u0430" * 5000)
    message = str(caught.value)
    assert message.isascii()
    assert "\n" not in message
    assert len(message) < 1500


def test_path_is_case_sensitive() -> None:
    assert SpiffeId.parse("spiffe://shop.example/A") != SpiffeId.parse("spiffe://shop.example/a")


def test_constructor_is_as_strict_as_parsing() -> None:
    for path in ("a", "/", "/a/", "/a/../b", "/\n"):
        with pytest.raises(SpiffeIdError):
            SpiffeId(SHOP, path)


def test_equal_ids_are_one_dictionary_key() -> None:
    table = {SpiffeId.parse("spiffe://shop.example/a"): 1}
    assert table[SpiffeId(SHOP, "/a")] == 1
    assert SpiffeId(TrustDomain("shop.exampl"), "/a") not in table
    assert SpiffeId(SHOP, "/a") != "spiffe://shop.example/a"
    assert TrustDomain("shop.example") != "shop.example"


def test_workload_names_are_told_for_that_form_alone() -> None:
    web = SpiffeId.workload(SHOP, "shop", "web")
    assert str(web) == "spiffe://shop.example/ns/shop/sa/web"
    assert (web.namespace, web.service_account, web.segments) == ("shop", "web", ("ns", "shop", "sa", "web"))
    for path in ("", "/ns/shop", "/ns/shop/sa", "/NS/shop/sa/web", "/ns/shop/sa/web/more", "/x/ns/shop/sa/web"):
        other = SpiffeId(SHOP, path)
        assert (other.namespace, other.service_account) == (None, None)


@pytest.mark.parametrize("name", ["", "..", "a/b", "*", "a\n"])
def test_workload_name_is_one_segment(name: str) -> None:
    with pytest.raises(SpiffeIdError):
        SpiffeId.workload(SHOP, name, "web")
    with pytest.raises(SpiffeIdError):
        SpiffeId.workload(SHOP, "shop", name)


def test_control_plane_has_reserved_names() -> None:
    assert str(control_plane_id(SHOP)) == "spiffe://shop.example/ns/ringfence-system/sa/controlplane"
    assert control_plane_id(SHOP).namespace == RESERVED_NAMESPACE
    assert control_plane_dns_name(SHOP) == "controlplane.ringfence.shop.example"


def test_ids_cannot_be_changed() -> None:
    spiffe_id = SpiffeId(SHOP, "/a")
    with pytest.raises(AttributeError):
        spiffe_id.path = "/b"  # type: ignore[misc]


def test_copies_are_equal() -> None:
    spiffe_id = SpiffeId(SHOP, "/a")
    for again in (copy.deepcopy(spiffe_id), pickle.loads(pickle.dumps(spiffe_id))):
        assert again == spiffe_id
        assert hash(again) == hash(spiffe_id)


def test_hash_of_another_process_is_not_taken_over() -> None:
    script = (
        "import pickle, sys; from ringfence.spiffe import SpiffeId;"
        "sys.stdout.buffer.write(pickle.dumps(SpiffeId.parse('spiffe://shop.example/a')))"
    )
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env={"PYTHONHASHSEED": "7"})
    assert pickle.loads(made.stdout) in {SpiffeId(SHOP, "/a")}
