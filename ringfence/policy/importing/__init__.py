"""Policies of other meshes and of Kubernetes as documents of ours; what cannot be said is listed, never dropped. Pure.

``objects`` reads what others wrote, ``istio``, ``linkerd`` and ``networkpolicy`` say it in our words, ``imported``
holds what came of it. Whatever is not surely the same is not said: an allow rule that is left out lets less pass, and
is listed; a deny rule that is left out lets more pass, and makes the import fail.
"""
