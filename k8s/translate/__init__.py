"""From the objects of a cluster to the mesh as the control plane has it. Pure.

``cluster``: what is known of a cluster at one moment; ``protocols``: what a port speaks; ``workloads``: what pods of no
Service are called; ``ports``: what stands behind each port; ``meshing``: all of it put together. May import
``k8s.objects`` and ``ringfence``.
"""
