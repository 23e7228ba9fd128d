"""The certificate authority: the only holder of signing keys. This file is its whole public face.

Others import from here and from nowhere deeper. Names load on first use: SQLAlchemy and gRPC cost a good part of a
second to import, and ``ringfence --help`` needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ca.attesting import EvidenceSources
    from ca.authority import Authority, init_authority, open_authority
    from ca.border import REQUEST_ID_KEY
    from ca.database_url import DATABASE_URL_FILE_VARIABLE, read_database_url_file
    from ca.errors import (
        CaError,
        DataFolderError,
        IdentityRefused,
        PassphraseError,
        RefusalReason,
        RequestInvalid,
        SettingsInvalid,
        StoreError,
        StoreUnavailable,
    )
    from ca.joining import add_joining
    from ca.passphrase import PASSPHRASE_FILE_VARIABLE, read_passphrase_file
    from ca.renewal import add_renewal
    from ca.settings import AuthoritySettings, IssuingLimits

_HOME = {
    "EvidenceSources": "attesting",
    "Authority": "authority",
    "init_authority": "authority",
    "open_authority": "authority",
    "REQUEST_ID_KEY": "border",
    "DATABASE_URL_FILE_VARIABLE": "database_url",
    "read_database_url_file": "database_url",
    "CaError": "errors",
    "DataFolderError": "errors",
    "IdentityRefused": "errors",
    "PassphraseError": "errors",
    "RefusalReason": "errors",
    "RequestInvalid": "errors",
    "SettingsInvalid": "errors",
    "StoreError": "errors",
    "StoreUnavailable": "errors",
    "add_joining": "joining",
    "PASSPHRASE_FILE_VARIABLE": "passphrase",
    "read_passphrase_file": "passphrase",
    "add_renewal": "renewal",
    "AuthoritySettings": "settings",
    "IssuingLimits": "settings",
}

__all__ = [
    "DATABASE_URL_FILE_VARIABLE",
    "PASSPHRASE_FILE_VARIABLE",
    "REQUEST_ID_KEY",
    "Authority",
    "AuthoritySettings",
    "CaError",
    "DataFolderError",
    "EvidenceSources",
    "IdentityRefused",
    "IssuingLimits",
    "PassphraseError",
    "RefusalReason",
    "RequestInvalid",
    "SettingsInvalid",
    "StoreError",
    "StoreUnavailable",
    "add_joining",
    "add_renewal",
    "init_authority",
    "open_authority",
    "read_database_url_file",
    "read_passphrase_file",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
