"""The Kubernetes edge of the mesh: injector webhook, controller, CRDs, Helm chart and container image.

It will own everything that knows the Kubernetes API: adding a sidecar to a pod, turning the cluster's services and
policy documents into what the control plane reads, and packaging. It may import ``ringfence`` and nothing of ``ca``,
``controlplane`` or ``sidecar``; the control plane finds its webhook by entry point. Nothing of it is built yet: the
mesh runs on plain hosts and on one machine.
"""
