"""Tessera: multi-task vision transformers with mixtures of experts, on open RTL that is exact bit for bit.

The floors of the house are this package's folders; in the checkout they are links to the folders beside it.
"""
