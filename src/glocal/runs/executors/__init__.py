"""Who does the work of a run: this process, several of this machine, or a cluster.

`work` says what is done with each item; `local`, `processes` and `cluster` do it. The code of
folders and evaluations does not know which. Not to be confused with `glocal.engines`, which run an
exported network in place of torch.
"""
