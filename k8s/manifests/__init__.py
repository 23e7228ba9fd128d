"""The chart as plain manifests, for ``kubectl apply -k k8s/manifests``; ``render`` writes them."""
