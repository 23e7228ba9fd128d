"""A pod's probes, answered by its sidecar: the kubelet has no identity, so its own would be refused by the mesh.

The injector rewrites each probe of the app's containers to a GET of ``/app-health/<container>/<probe>`` on the signals
listener, and tells the sidecar what was declared (``model``, read by ``reading``). ``asking`` does then what the
kubelet would have done, with the app at the pod's own address, and the kubelet is told success or failure, never a byte
of the app's answer (``pages``). Whoever can reach the signals port can have the app asked exactly this, and nothing
else. Needs neither identity nor control plane.
"""
