"""The audit: the same trained networks and pairs through published packages, against our exact answer.

Host side. The packages' pins collide, so each is run by a stand-alone script of `peers/` in an environment of its own; nothing
here imports torch or any of them.
"""

PEERS = ("captum", "kronfluence", "dattri", "pydvl", "curvlinops")
