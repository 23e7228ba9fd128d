"""The few fields of Kubernetes objects that the mesh uses: plain JSON as the API serves it in, frozen values out. Pure.

``names`` has every label, annotation, port and name that the mesh puts on objects or reads from them. The other modules
read one kind of object each. They may import ``ringfence`` alone; everything else in ``k8s`` may import them.
"""
