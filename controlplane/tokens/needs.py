"""What token issuers need that their documents do not hold: keys from URLs, secrets from files. Adapter, for the files.

Judged with the documents: a URL that may not be asked, an inline key set that is refused, or a secret that cannot be
read refuses the change. What was fetched comes later, and only ever as the issuer said it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from controlplane.mesh.document import MeshDocument
from controlplane.tokens.guard import UrlRefusedError, allowed_url
from controlplane.tokens.secrets import SecretFileError, read_secret
from ringfence.mesh import TokenIssuerRules
from ringfence.policy.bound import Policies
from ringfence.policy.model import TokenIssuer
from ringfence.policy.problems import Problem, shown
from ringfence.policy.tokens import KeySetError, read_key_set
from ringfence.policy.written import Placed, PolicyDocument, TokenIssuerDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerNeeds:
    """By full name of the issuer: its key set where it is inline, the URL of one, its client's secret. ``rules``: by
    which URLs are asked, the CA file by its place on disk."""

    rules: TokenIssuerRules = field(default_factory=TokenIssuerRules)
    inline: Mapping[str, str] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def needs_of(
    documents: Iterable[PolicyDocument], mesh: MeshDocument, *, here: bool = True
) -> tuple[IssuerNeeds, list[Problem]]:
    """What the token issuers among ``documents`` need, and what is wrong with it. Blocking work.

    ``here``: whether this is where they are put in force; elsewhere no secret and no CA file is looked for.
    """
    problems: list[Problem] = []
    rules = mesh.mesh.token_issuers
    if rules.ca_file and here:
        ca_file = Path(mesh.file).parent / rules.ca_file
        rules = replace(rules, ca_file=str(ca_file))
        if flaw := _flaw_of(ca_file):
            message = f"caFile {ca_file} holds no certificates: {flaw}"
            problems.append(mesh.problem("tokenIssuers", message, "name a file of PEM certificates"))
    inline: dict[str, str] = {}
    urls: dict[str, str] = {}
    secrets: dict[str, str] = {}
    for document in documents:
        if not isinstance(document, TokenIssuerDocument):
            continue
        name, issuer = document.header.full_name, document.issuer
        try:
            if issuer.keys:
                inline[name] = read_key_set(issuer.keys).text
            if document.jwks_url is not None:
                urls[name] = allowed_url(document.jwks_url.value, rules).url
            if issuer.introspection is not None and document.secret_file is not None:
                allowed_url(issuer.introspection.url, rules)
                if here:
                    secrets[name] = read_secret(_secret_of(document.secret_file, mesh))
        except KeySetError:
            continue  # told where it stands, by the reader of documents
        except UrlRefusedError as error:
            place = document.jwks_url.place if document.jwks_url is not None else document.header.place
            problems.append(place.problem(error.message, error.mend))
        except SecretFileError as error:
            assert document.secret_file is not None
            problems.append(document.secret_file.place.problem(error.message, error.mend))
    return IssuerNeeds(inline=inline, urls=urls, secrets=secrets, rules=rules), problems


def _secret_of(named: Placed[str], mesh: MeshDocument) -> Path:
    """The file that a document names; raises SecretFileError. Its content goes to sidecars of whoever wrote that, so
    it must be none of the control plane's own: it lies with the document, or where the owner of the mesh keeps such."""
    beside = Path(named.place.file).parent
    file = (beside / named.value).resolve()
    folders = (beside, *(Path(mesh.file).parent / one for one in mesh.mesh.token_issuers.secret_folders))
    if any(file.is_relative_to(one.resolve()) for one in folders):
        return file
    raise SecretFileError(
        f"secret file {shown(named.value)} does not lie in the folder of its document",
        "put it there, or have its folder named by tokenIssuers.secretFolders of the mesh file",
    )


def _flaw_of(ca_file: Path) -> str:
    """Why nobody could be verified by it; empty if somebody can."""
    try:
        ssl.create_default_context(cafile=str(ca_file))
    except ssl.SSLError as error:
        return str(error.reason or error).lower()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def with_needs(policies: Policies, needs: IssuerNeeds, fetched: Mapping[str, str]) -> Policies:
    """``policies`` whose issuers have what they need; ``fetched``: URL -> key set, of those that ever gave one."""

    def filled(issuer: TokenIssuer) -> TokenIssuer:
        keys = needs.inline.get(issuer.name) or fetched.get(needs.urls.get(issuer.name, ""), "")
        asked = issuer.introspection
        if asked is not None:
            asked = replace(asked, secret=needs.secrets.get(issuer.name, ""))
        return replace(issuer, keys=keys, introspection=asked)

    return {
        service: replace(bound, issuers=tuple(map(filled, bound.issuers))) if bound.issuers else bound
        for service, bound in policies.items()
    }
