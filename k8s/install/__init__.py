"""What an installation does once, in the cluster: a passphrase for the authority, and the record of its root.

Both are created and never changed: whoever comes second finds them there. ``api`` asks the API server, ``commands`` are
the two commands that the chart runs; neither needs the Kubernetes client, so they start in a moment.
"""
