"""What pods know the mesh by before it knows them: its roots, where Kubernetes keeps such things; and certificates for
pods that ask the cluster for one.

Order to read: ``bundles`` (what the objects say), ``keeping`` (keeps them so), ``requests`` (who may have which
certificate), ``signing`` (gives it).
"""
