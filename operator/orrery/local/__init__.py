"""The local engine: the same loop as the operator's, over processes and a folder.

``engine`` is the loop. ``store`` reads and writes the state folder, ``processes`` starts and ends probes, ``shepherd``
watches one of them and outlives this program. What can be decided without touching the machine is in ``attempts`` (what
an attempt cost and how it ended) and in ``planning.reports`` (whether a report may be believed).
"""
