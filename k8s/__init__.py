"""The Kubernetes edge of the mesh: injector webhook, controller, CRDs, Helm chart and container image.

It owns everything that knows the Kubernetes API: adding a sidecar to a pod, turning the cluster's services and policy
documents into what the control plane reads, packaging, and the commands of those who run it. It may import
``ringfence`` and nothing of ``ca``, ``controlplane`` or ``sidecar``; the control plane finds it by entry point.

Read ``objects`` (what is read of the API's JSON), ``inject`` (a pod and its sidecar), ``admission`` (the webhooks),
``attest`` (who a pod is), ``translate`` (the cluster as a mesh), ``controller`` (what watches and writes), and
``platform``, which makes one of them all.
"""
