"""``ringfence policy``: what authors of policy ask, of files and of a running mesh. One module a command.

May import intake, operate and below; the answers themselves are computed in ``ringfence.policy``.
"""
