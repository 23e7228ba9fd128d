"""Answers the API server when it asks what to do with an object: admission webhooks.

``review`` reads and writes AdmissionReviews (pure), ``injecting`` answers for pods, ``serving`` is the HTTPS server
for any number of such judges, in ``turns`` among those who ask; ``certificate`` holds its certificate, which is
replaced while connections live.
"""
