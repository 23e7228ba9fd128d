"""Which URLs and addresses may be asked for key sets."""

from __future__ import annotations

import pytest

from controlplane.mesh.document import read_mesh
from controlplane.tokens.guard import UrlRefusedError, allowed_url, refused_address
from ringfence.mesh import TokenIssuerRules
from tests.mesh_files import mesh_text

RULES = TokenIssuerRules(hosts=("login.example.org", "*.idp.example"), private_networks=("10.1.0.0/16", "fd00:1::/32"))


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example.org/keys",
        "https://login.example.org",
        "https://login.example.org:8443/realms/shop/keys?version=1",
        "https://a.idp.example/keys",
        "https://a.b.idp.example/keys",
    ],
)
def test_urls_on_allowed_hosts_are_taken(url: str) -> None:
    assert allowed_url(url, RULES).url == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://login.example.org/keys", "is not https"),
        ("https://other.example.org/keys", "not among the allowed"),
        ("https://idp.example/keys", "not among the allowed"),
        ("https://evilidp.example/keys", "not among the allowed"),
        ("https://login.example.org.evil.example/keys", "not among the allowed"),
        ("https://169.254.169.254/latest/meta-data", "is an address"),
        ("https://10.1.0.1/keys", "is an address"),
        ("https://2130706433/keys", "is an address"),
        ("https://0x7f000001/keys", "is an address"),
        ("https://127.1/keys", "is an address"),
        ("https://[::1]/keys", "is no URL"),
        ("https://login.example.org@evil.example/keys", "is no URL"),
        ("https://user:pass@login.example.org/keys", "is no URL"),
        ("https://login.example.org/keys#x", "is no URL"),
        ("https://login.example.org\\@evil.example/", "is no URL"),
        ("https://login.example.org/k eys", "is no URL"),
        ("https://login.example.org/keys\n", "is no URL"),
        ("https://login.example.org/\r\nhost: evil", "is no URL"),
        ("https://lоgin.example.org/keys", "is no URL"),
        ("HTTPS://login.example.org/keys", "is no URL"),
        ("https://LOGIN.example.org/keys", "is no URL"),
        ("https://login.example.org:0/keys", "no port"),
        ("https://login.example.org:65536/keys", "no port"),
        ("file:///etc/passwd", "is no URL"),
        ("ftp://login.example.org/", "is no URL"),
        ("//login.example.org/keys", "is no URL"),
        ("", "is no URL"),
        ("https://login.example.org/" + "a" * 2100, "is no URL"),
    ],
)
def test_their_neighbours_are_refused(url: str, says: str) -> None:
    with pytest.raises(UrlRefusedError, match=says):
        allowed_url(url, RULES)


def test_without_rules_nothing_is_asked() -> None:
    with pytest.raises(UrlRefusedError):
        allowed_url("https://login.example.org/keys", TokenIssuerRules())


def test_plain_http_needs_the_mesh_files_word_and_this_machine() -> None:
    trial = TokenIssuerRules(hosts=("localhost",), private_networks=("127.0.0.0/8",), plain_http=True)
    assert not allowed_url("http://localhost:8080/keys", trial).tls
    assert not allowed_url("http://127.0.0.1:8080/keys", trial).tls
    for other in (
        "https://127.0.0.1:8080/keys",
        "http://10.1.0.1/keys",
        "http://169.254.169.254/",
        "http://2130706433/",
    ):
        with pytest.raises(UrlRefusedError):
            allowed_url(other, trial)
    assert refused_address("127.0.0.1", trial, tls=False) == ""
    assert refused_address("8.8.8.8", trial, tls=False) == "without TLS not on this machine"
    assert refused_address("10.1.0.1", RULES, tls=False) == "without TLS not on this machine"


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "10.1.2.3", "fd00:1::7", "::ffff:8.8.8.8", "::ffff:10.1.0.1"]
)
def test_public_addresses_and_listed_networks_may_be_connected_to(address: str) -> None:
    assert refused_address(address, RULES, tls=True) == ""


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "::1",
        "::ffff:127.0.0.1",
        "10.2.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "fd00:2::1",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "240.0.0.1",
        "192.0.2.1",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:53aa:64c::1",
        "::169.254.169.254",
        "localhost",
        "",
    ],
)
def test_addresses_of_the_inside_are_refused(address: str) -> None:
    assert refused_address(address, RULES, tls=True)


@pytest.mark.parametrize("address", ["64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1"])
def test_no_listed_network_leads_to_link_local_addresses_behind_a_gateway(address: str) -> None:
    rules = TokenIssuerRules(private_networks=("64:ff9b::/32", "2002::/16"))
    assert refused_address(address, rules, tls=True) == "link-local"
    assert refused_address("2002:a01:1::1", rules, tls=True) == ""
    assert refused_address("2606:4700::a9fe:a9fe", rules, tls=True) == ""


def rules_of(text: str) -> tuple[TokenIssuerRules | None, list[str]]:
    document, problems = read_mesh(mesh_text(extra=f"tokenIssuers: {text}"), "mesh.yaml")
    return (document.mesh.token_issuers if document else None), [str(problem) for problem in problems]


def test_the_mesh_file_says_who_may_be_asked() -> None:
    rules, problems = rules_of(
        "{allowedHosts: [login.example.org, '*.idp.example'], privateNetworks: [10.1.0.0/16], "
        "caFile: ca.pem, refresh: 1m}"
    )
    assert not problems
    assert rules == TokenIssuerRules(
        hosts=("login.example.org", "*.idp.example"),
        private_networks=("10.1.0.0/16",),
        ca_file="ca.pem",
        refresh_seconds=60.0,
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{allowedHosts: []}", "is empty"),
        ("{allowedHosts: ['*']}", "wildcard"),
        ("{allowedHosts: [10.0.0.1]}", "is an address"),
        ("{allowedHosts: [login.example.org, login.example.org]}", "there twice"),
        ("{privateNetworks: [0.0.0.0/0]}", "link-local"),
        ("{privateNetworks: [169.254.169.254/32]}", "link-local"),
        ("{privateNetworks: ['fe80::/16']}", "link-local"),
        ("{privateNetworks: [10.1.0.1/16]}", "behind its prefix"),
        ("{refresh: 10ms}", "refresh"),
        ("{allowedHost: [a.example]}", "allowedHosts"),
        ("{plainHttpFromThisMachine: yes please}", "plainHttpFromThisMachine"),
    ],
)
def test_what_it_says_wrongly_is_told(text: str, says: str) -> None:
    rules, problems = rules_of(text)
    assert rules is None
    assert len(problems) == 1
    assert says in problems[0]
    assert problems[0].startswith("mesh.yaml:6:")
