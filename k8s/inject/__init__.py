"""Puts a sidecar into a pod: pod, namespace and settings in, a JSON patch or a refusal out. Pure.

``injection`` decides and composes; ``wishes`` reads the annotations, ``refusals`` says what cannot be in the mesh,
``probes`` turns the app's probes into ones that the sidecar answers, ``parts`` makes the containers and volumes, and
``patching`` says the difference as RFC 6902 has it. A value of an annotation becomes a value in JSON or a whole word of
an argument list, never part of a text that is read again.
"""
