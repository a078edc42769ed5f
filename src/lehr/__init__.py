"""lehr: from a few cheap training runs, how to set and anneal the LR of the expensive one."""

__version__ = "0.1.0"
