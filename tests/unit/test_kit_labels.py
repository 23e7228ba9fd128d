"""Names of instances are those that Kubernetes takes for pods, and no others; labels are shorter."""

from __future__ import annotations

import pytest

from ringfence.kit.labels import is_instance, is_label


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "web-5d4f9c-abcde",
        "a.b.c",
        "0",
        # A name of one label, as a Deployment with a long name gives its pods.
        "x" * 64,
        "x" * 253,
        f"{'x' * 100}.{'y' * 100}",
    ],
)
def test_what_kubernetes_takes_as_the_name_of_a_pod_names_an_instance(name: str) -> None:
    assert is_instance(name)


@pytest.mark.parametrize(
    "name", ["", ".", "a.", ".a", "a..b", "-a", "a-", "a-.b", "a.-b", "A", "a_b", "a/b", "a\n", "ä", "x" * 254]
)
def test_what_no_pod_can_be_called_names_no_instance(name: str) -> None:
    assert not is_instance(name)


def test_a_label_has_no_dot_and_63_characters_at_most() -> None:
    assert is_label("x" * 63)
    assert not is_label("x" * 64)
    assert not is_label("a.b")
