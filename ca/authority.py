"""The authority in a process: opens the data folder and the database, and is the one place that wires their parts.

Blocking throughout and safe to call from any thread; the servicers reach it through an ``IssuingDesk``, which is not
blocking. The signing key stays in the issuer; nothing that this module hands out holds it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from types import TracebackType
from typing import Self

from ca.csr import public_key_of_spki
from ca.desk import IssuingDesk
from ca.errors import IdentityRefused, IssuerExpired, LifetimeRefused, RequestInvalid, StoreUnavailable
from ca.folder import DATABASE, SigningKeys, check_vacant, create_folder, read_certificates, read_issuing_key
from ca.hierarchy import Hierarchy, build_intermediate, build_root, is_dns_name
from ca.issue import IssuedSvid, Issuer
from ca.keys import new_key
from ca.line import IssuingLine, Order
from ca.nonces import NonceMint
from ca.passphrase import check_new_passphrase
from ca.settings import AuthoritySettings, IssuingLimits
from ca.store.database import Database, open_database
from ca.store.host_keys import EnrolledHostKey, list_host_keys, revoke_host_key
from ca.store.issued import IssuedRecord, list_issued
from ca.store.record import OwnClaim, PlatformClaim
from ca.store.state import claim_database
from ca.store.tokens import MintedToken, mint_token
from ca.tally import Tally
from ca.template import check_workload_id, granted_lifetime, new_serial, prepare_template
from ringfence.kit.clock import Clock, SystemClock
from ringfence.kit.log import Logger
from ringfence.spiffe import (
    RESERVED_NAMESPACE,
    SpiffeId,
    TrustBundle,
    TrustDomain,
    X509Svid,
    control_plane_dns_name,
    control_plane_id,
    fingerprint,
)

RandomBytes = Callable[[int], bytes]
_LIST_LIMIT = 10_000


def init_authority(
    data_dir: Path,
    trust_domain: TrustDomain,
    passphrase: bytes,
    *,
    dns_names: Iterable[str] = (),
    clock: Clock | None = None,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> Hierarchy:
    """Make a new authority in ``data_dir``, which must be absent or empty; all of it or, on any failure, nothing.

    ``dns_names``: further DNS names under which leaves may be issued. The new intermediate proves itself before it is
    written, by signing a trial SVID that must verify. DataFolderError, PassphraseError, RequestInvalid, OutputRefused.
    """
    clock = clock or SystemClock()
    names = tuple(dns_names)
    _check_names(trust_domain, names)
    check_new_passphrase(passphrase)
    check_vacant(data_dir)
    now = clock.now()
    keys = SigningKeys(root=new_key(), issuing=new_key())
    root = build_root(keys.root, trust_domain, now=now, serial=new_serial(random_bytes))
    intermediate = build_intermediate(
        keys.issuing.public_key(),
        root=root,
        root_key=keys.root,
        trust_domain=trust_domain,
        dns_names=names,
        now=now,
        serial=new_serial(random_bytes),
    )
    hierarchy = Hierarchy(trust_domain=trust_domain, root=root, intermediate=intermediate)
    _try_out(Issuer.of(hierarchy, keys.issuing), now, random_bytes)
    create_folder(data_dir, hierarchy, keys, passphrase, random_bytes)
    return hierarchy


def _check_names(trust_domain: TrustDomain, dns_names: tuple[str, ...]) -> None:
    # A constraint that starts with a dot means "every host below"; such a trust domain could not be told from it.
    if not all(trust_domain.name.split(".")):
        raise RequestInvalid(f"trust domain {trust_domain} has an empty label (write it like shop.example)")
    for name in dns_names:
        if not is_dns_name(name):
            raise RequestInvalid(f"{name!r} is not a lower-case DNS name (write it like svc.cluster.local)")


def _try_out(issuer: Issuer, now: float, random_bytes: RandomBytes) -> None:
    trust_domain = issuer.hierarchy.trust_domain
    trial = prepare_template(
        control_plane_id(trust_domain),
        new_key().public_key(),
        lifetime_seconds=60,
        backdate_seconds=60,
        now=now,
        issuer=issuer.span,
        serial=new_serial(random_bytes),
        dns_names=(control_plane_dns_name(trust_domain),),
    )
    issuer.validate(trial, issuer.sign(trial), now)


def open_store(
    data_dir: Path,
    hierarchy: Hierarchy,
    *,
    database_url: str | None = None,
    limits: IssuingLimits | None = None,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> tuple[Database, bytes]:
    """The authority's database, migrated and checked to be its own, and the replicas' nonce secret.

    Needs no passphrase. StoreUnavailable, StoreTooNew, StoreForeign.
    """
    limits = limits or IssuingLimits()
    database = open_database(
        database_url,
        data_dir / DATABASE,
        wait_seconds=limits.database_wait_seconds,
        connections=limits.database_connections,
    )
    try:
        return database, claim_database(database, fingerprint(hierarchy.root_der), random_bytes)
    except BaseException:
        database.close()
        raise


def open_authority(
    settings: AuthoritySettings,
    clock: Clock | None = None,
    *,
    log: Logger | None = None,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> Authority:
    """Open the authority in ``settings.data_dir``; close it when done (it is a context manager).

    DataFolderError, PassphraseError, StoreUnavailable, StoreTooNew, StoreForeign.
    """
    hierarchy = read_certificates(settings.data_dir)
    key = read_issuing_key(settings.data_dir, hierarchy, settings.passphrase)
    database, nonce_secret = open_store(
        settings.data_dir,
        hierarchy,
        database_url=settings.database_url,
        limits=settings.limits,
        random_bytes=random_bytes,
    )
    return Authority(
        settings=settings,
        issuer=Issuer.of(hierarchy, key),
        database=database,
        nonces=NonceMint(secret=nonce_secret, life_seconds=settings.limits.nonce_seconds),
        clock=clock or SystemClock(),
        log=log or Logger("ca"),
        random_bytes=random_bytes,
    )


class Authority:
    """An open authority: signs, records, mints tokens, revokes host keys. Made by ``open_authority``."""

    def __init__(
        self,
        *,
        settings: AuthoritySettings,
        issuer: Issuer,
        database: Database,
        nonces: NonceMint,
        clock: Clock,
        log: Logger,
        random_bytes: RandomBytes,
    ) -> None:
        self._settings = settings
        self._hierarchy = issuer.hierarchy
        self._database = database
        self._nonces = nonces
        self._clock = clock
        self._log = log
        self._random_bytes = random_bytes
        self._tally = Tally()
        self._line = IssuingLine(
            issuer=issuer,
            database=database,
            clock=clock,
            random_bytes=random_bytes,
            limits=settings.limits,
            backdate_seconds=settings.backdate_seconds,
            log=log,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def trust_domain(self) -> TrustDomain:
        return self._hierarchy.trust_domain

    @property
    def root_fingerprint(self) -> str:
        """SHA-256 of the root's DER, lower-case hex: what a joining sidecar pins."""
        return fingerprint(self._hierarchy.root_der)

    @property
    def issuing_not_after(self) -> float:
        """When the issuing certificate ends, Unix seconds: from then on nothing can be issued."""
        return self._hierarchy.intermediate.not_valid_after_utc.timestamp()

    def bundle(self) -> TrustBundle:
        """The roots that peers of this trust domain verify against."""
        return TrustBundle(self.trust_domain, (self._hierarchy.root_der,))

    def tally(self) -> Mapping[tuple[str, str], int]:
        """How often each (method, outcome) happened since the start; both from closed sets."""
        return self._tally.totals()

    def desk(self) -> IssuingDesk:
        """What a servicer needs of this authority."""
        return IssuingDesk(
            trust_domain=self.trust_domain,
            roots=self.bundle().roots,
            lifetimes=self._settings.lifetimes,
            limits=self._settings.limits,
            clock=self._clock,
            random_bytes=self._random_bytes,
            log=self._log,
            tally=self._tally,
            nonces=self._nonces,
            place=self._line.place,
        )

    def mint_join_token(self, spiffe_id: SpiffeId, ttl_seconds: float) -> str:
        """A token good once, for this workload, for so long; see ``mint_join_token`` below for what it raises."""
        minted = mint_join_token(
            self._database,
            self.trust_domain,
            spiffe_id,
            ttl_seconds,
            now=self._clock.now(),
            limits=self._settings.limits,
            random_bytes=self._random_bytes,
        )
        self._log.info("join token minted", spiffe_id=minted.spiffe_id, expires_at=minted.expires_at)
        return minted.token

    def issue_svid(self, spiffe_id: SpiffeId, *, lifetime_seconds: int = 0) -> X509Svid:
        """An SVID for a workload, with a key made here, in memory; for tests and demonstrations beside the authority.

        IdentityRefused, LifetimeRefused, StoreUnavailable, IssuerExpired, OutputRefused, Overloaded.
        """
        check_workload_id(spiffe_id, self.trust_domain)
        return self._issue_own(spiffe_id, (), lifetime_seconds)

    def issue_control_plane(self, *, lifetime_seconds: int = 0) -> X509Svid:
        """The control plane's own SVID: its reserved identity and DNS name, a key made here, in memory.

        StoreUnavailable, IssuerExpired, OutputRefused, Overloaded.
        """
        names = (control_plane_dns_name(self.trust_domain),)
        return self._issue_own(control_plane_id(self.trust_domain), names, lifetime_seconds)

    def issue_server(self, dns_names: Sequence[str], *, lifetime_seconds: int = 0) -> X509Svid:
        """For a server of the platform that the control plane runs on, a key made here, in memory. Its identity is in
        the reserved namespace, and not the control plane's own.

        IdentityRefused, LifetimeRefused, StoreUnavailable, IssuerExpired, OutputRefused, Overloaded.
        """
        own = control_plane_dns_name(self.trust_domain)
        wrong = [name for name in dns_names if name == own or not is_dns_name(name)]
        if wrong or not dns_names:
            raise IdentityRefused(f"{wrong[0] if wrong else ''!a} is no DNS name for a server of the platform")
        spiffe_id = SpiffeId.workload(self.trust_domain, RESERVED_NAMESPACE, "platform")
        return self._issue_own(spiffe_id, tuple(dict.fromkeys(dns_names)), lifetime_seconds)

    def _issue_own(self, spiffe_id: SpiffeId, dns_names: tuple[str, ...], lifetime_seconds: int) -> X509Svid:
        key = new_key()
        order = Order(
            spiffe_id=spiffe_id,
            public_key=key.public_key(),
            claim=OwnClaim(),
            lifetime_seconds=granted_lifetime(lifetime_seconds, self._settings.lifetimes),
            request_id=self._random_bytes(8).hex(),
            dns_names=dns_names,
        )
        svid = self._issued(order)
        return X509Svid(
            spiffe_id=svid.spiffe_id,
            chain=svid.chain,
            private_key=key,
            not_before=float(svid.not_before),
            not_after=float(svid.not_after),
            serial=svid.serial,
        )

    def certify(self, spiffe_id: SpiffeId, public_key: bytes, *, least_seconds: int, most_seconds: int) -> IssuedSvid:
        """An SVID on a workload's key (SubjectPublicKeyInfo, DER), for whom the platform vouches that runs it. From its
        beginning to its end it lasts ``least_seconds`` to ``most_seconds``, within that as long as any.

        CsrRefused, IdentityRefused, LifetimeRefused, StoreUnavailable, IssuerExpired, OutputRefused, Overloaded.
        """
        check_workload_id(spiffe_id, self.trust_domain)
        backdate = self._settings.backdate_seconds
        standard = self._settings.lifetimes.default_seconds
        wanted = max(least_seconds - backdate, min(standard, most_seconds - backdate))
        lifetime = granted_lifetime(max(1, wanted), self._settings.lifetimes)
        order = Order(
            spiffe_id=spiffe_id,
            public_key=public_key_of_spki(public_key),
            claim=PlatformClaim(),
            lifetime_seconds=lifetime,
            request_id=self._random_bytes(8).hex(),
        )
        if not least_seconds <= lifetime + backdate <= most_seconds:
            raise LifetimeRefused(
                f"{least_seconds} to {most_seconds} s cannot be had: this authority gives at most "
                f"{self._settings.lifetimes.ceiling_seconds + backdate} s (raise its ceiling)"
            )
        svid = self._issued(order)
        if svid.not_after - svid.not_before < least_seconds:
            raise IssuerExpired("the issuing certificate ends before the certificate may (renew it)")
        self._log.info(
            "svid issued for the platform",
            spiffe_id=str(spiffe_id),
            serial=svid.serial,
            not_after=svid.not_after,
            request_id=order.request_id,
        )
        return svid

    def _issued(self, order: Order) -> IssuedSvid:
        try:
            return self._line.place(lambda _: order).result(self._settings.limits.deadline_seconds)
        except FutureTimeoutError as problem:
            raise StoreUnavailable("the authority did not answer in time") from problem

    def revoke_host_key(self, key_id: str) -> bool:
        """End a host key, and with it every renewal of SVIDs that descend from it; whether it was enrolled at all."""
        enrolled = revoke_host_key(self._database, key_id, self._clock.now())
        if enrolled:
            self._log.warning("host key revoked", host_key_id=key_id)
        return enrolled

    def host_keys(self, *, limit: int = _LIST_LIMIT) -> list[EnrolledHostKey]:
        """Enrolled host keys, the newest first."""
        return list_host_keys(self._database, limit=limit)

    def issued(self, *, spiffe_id: SpiffeId | None = None, limit: int = _LIST_LIMIT) -> list[IssuedRecord]:
        """Recorded SVIDs, the newest first."""
        return list_issued(self._database, spiffe_id=None if spiffe_id is None else str(spiffe_id), limit=limit)

    def close(self) -> None:
        """Finish what is in hand, then let go of the thread and the database."""
        self._line.close()
        self._database.close()


def mint_join_token(
    database: Database,
    trust_domain: TrustDomain,
    spiffe_id: SpiffeId,
    ttl_seconds: float,
    *,
    now: float,
    limits: IssuingLimits,
    random_bytes: RandomBytes,
) -> MintedToken:
    """A join token for a workload; IdentityRefused, RequestInvalid (life or number out of bounds), StoreUnavailable."""
    check_workload_id(spiffe_id, trust_domain)
    if not 1 <= ttl_seconds <= limits.token_ceiling_seconds:
        raise RequestInvalid(f"token life of {ttl_seconds:g} s lies outside 1 to {limits.token_ceiling_seconds} s")
    return mint_token(
        database,
        str(spiffe_id),
        ttl_seconds=ttl_seconds,
        now=now,
        random_bytes=random_bytes,
        live_limit=limits.live_tokens,
    )
