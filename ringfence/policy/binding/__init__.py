"""Policy documents as written to the policy of each service; ``ringfence.policy.bind`` is the face. Pure.

``catalog`` finds documents by name, ``selection`` the services that they speak of, ``callers`` the identities,
``lists`` the rules; ``issuers`` and ``postures`` what else a service is told. ``checks`` and ``covering`` find what
would never be enforced. Whatever is wrong becomes a problem with its place; nothing is left out in silence.
"""
