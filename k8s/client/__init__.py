"""The cluster's API server as the rest of the package sees it: plain JSON objects, typed errors, and copies of all
objects of a kind that are kept by list and watch.

The only importer of the Kubernetes client library, which gives the configuration, the authentication and the HTTP
connection (docs/decisions/0045); what a watch needs beside is here. Order to read: ``resources``, ``errors``,
``decoding``, ``connection``, ``copies``.
"""
