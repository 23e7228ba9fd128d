"""Words of annotations and settings of the injector."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from k8s.inject import values
from k8s.inject.settings import InjectSettings, InjectSettingsError, Resources, read_settings


@pytest.mark.parametrize(
    ("text", "found"),
    [("", ()), ("80", (80,)), (" 443 ,80", (80, 443)), ("8000-8002,8001", (8000, 8001, 8002)), ("65535", (65535,))],
)
def test_ports_are_read(text: str, found: tuple[int, ...]) -> None:
    assert values.ports(text) == found


@pytest.mark.parametrize(
    "text",
    ["0", "65536", "80,", ",80", "80-", "-80", "80-79", "+80", "8 0", "80\t", "80\n", "0x50", "1-257", "1,2;3", "http"],
)
def test_what_is_no_list_of_ports_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\(.+\)$"):
        values.ports(text)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.1.2.3/32", "fd00::/8", "0.0.0.0/1"])
def test_networks_are_read(text: str) -> None:
    assert values.networks(text) == (text,)


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1/8", "::/0", "0.0.0.0/0", "fe80::%eth0/64", "10/8", "10.0.0.0/33", "a", "10.0.0.0/8\n", "::/1,8000::/1"],
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\(.+\)$"):
        values.networks(text)


@pytest.mark.parametrize(
    "text",
    [
        "ringfence",
        "ringfence:1.2",
        "localhost/ringfence:test",
        "registry.example:5000/a/b-c_d:v1",
        "[fd00::1]:5000/a",
        "a@sha256:" + "0" * 64,
    ],
)
def test_images_are_read(text: str) -> None:
    assert values.image(text) == text


@pytest.mark.parametrize(
    "text", ["", "UPPER", "a:", "a b", "a\n", "-a", "a/../b", "a@sha256:0", "http://a/b", "$(A)", "a" * 513]
)
def test_what_is_no_image_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no image"):
        values.image(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("100m", "100m"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("2", "2"),
        ("1500m", "1500m"),
        ("0.001", "1m"),
        ("999", "999"),
    ],
)
def test_cpu_is_said_as_the_server_says_it(text: str, said: str) -> None:
    cores = values.cpu(text)
    assert cores is not None and values.cpu_text(cores) == said


@pytest.mark.parametrize(
    ("text", "said", "amount"),
    [
        ("64Mi", "64Mi", 64 * 2**20),
        ("1024Mi", "1Gi", 2**30),
        ("64000k", "64M", 64 * 10**6),
        ("67108864", "67108864", 2**26),
        ("65536Ki", "64Mi", 2**26),
        ("3Gi", "3Gi", 3 * 2**30),
    ],
)
def test_memory_is_said_as_the_server_says_it(text: str, said: str, amount: int) -> None:
    assert values.memory(text) == Decimal(amount) and values.memory_text(text) == said


@pytest.mark.parametrize("read", [values.cpu, values.memory])
@pytest.mark.parametrize("text", ["-1", "1e3", "1 ", "1\n", "NaN", "1,5", "0", "1Zi", "\u0661", "0x1", "1m1"])
def test_what_is_no_amount_is_refused(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"\(.+\)$"):
        read(text)


@pytest.mark.parametrize("text", ["0s", "500ms", "10s", "60m", "1h", "3600s"])
def test_durations_are_read(text: str) -> None:
    assert values.duration(text) == text


@pytest.mark.parametrize("text", ["", "10", "2h", "61m", "1h30m", "-1s", "1s\n", "1 s", "1d", "99999999s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        values.duration(text)


def test_settings_are_read() -> None:
    read = read_settings(
        '{"trust_domain": "shop.example", "image": "a:1", "cni": true, "resources": {"cpu_limit": "1"},'
        ' "image_pull_secrets": ["one"], "revision": "canary", "sidecar_uid": 20000}'
    )
    assert read == InjectSettings(
        trust_domain="shop.example",
        image="a:1",
        cni=True,
        resources=Resources(cpu_limit="1"),
        image_pull_secrets=("one",),
        revision="canary",
        sidecar_uid=20000,
    )
    assert read.host == "ringfence.ringfence-system.svc"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no JSON"),
        ("[" * 100_000, ""),
        ("[]", "no object"),
        ("{}", "trust_domain is missing"),
        ('{"trust_domain": "shop.example"}', "image is missing"),
        ('{"trust_domain": "shop.example", "image": "a", "cny": true}', "did you mean cni?"),
        ('{"trust_domain": "shop.example", "image": "a", "cni": "true"}', "cni is no bool"),
        ('{"trust_domain": "shop.example", "image": "a", "sidecar_uid": true}', "sidecar_uid is no int"),
        ('{"trust_domain": "shop.example", "image": "a", "sidecar_uid": -1}', "0: drawn"),
        ('{"trust_domain": "shop.example", "image": "a", "signals_host": "::"}', "0.0.0.0"),
        ('{"trust_domain": "Shop", "image": "a"}', "injector:"),
        ('{"trust_domain": "shop.example", "image": "a b"}', "is no image"),
        ('{"trust_domain": "shop.example", "image": "a", "image_pull_policy": "Sometimes"}', "IfNotPresent"),
        ('{"trust_domain": "shop.example", "image": "a", "image_pull_secrets": "x"}', "no list"),
        ('{"trust_domain": "shop.example", "image": "a", "image_pull_secrets": ["X y"]}', "not a DNS name"),
        ('{"trust_domain": "shop.example", "image": "a", "resources": []}', "resources are no object"),
        ('{"trust_domain": "shop.example", "image": "a", "resources": {"cpu": "1"}}', "unknown setting 'cpu'"),
        ('{"trust_domain": "shop.example", "image": "a", "resources": {"cpu_limit": 1}}', "no str"),
        ('{"trust_domain": "shop.example", "image": "a", "resources": {"memory_limit": "33Mi"}}', "raise the limit"),
        ('{"trust_domain": "shop.example", "image": "a", "exclude_outbound_cidrs": ["::/0"]}', "every address"),
        ('{"trust_domain": "shop.example", "image": "a", "system_namespace": "A"}', "not a name"),
        ('{"trust_domain": "shop.example", "image": "a", "control_host": "a:1"}', "not a DNS name"),
    ],
)
def test_settings_that_are_wrong_are_refused(text: str, told: str) -> None:
    with pytest.raises(InjectSettingsError) as caught:
        read_settings(text)
    assert told in str(caught.value) and str(caught.value).startswith("injector: ")
