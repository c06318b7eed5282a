"""The contract between compiler, machine and verifier: commands, tensors, the memory image, and the records that a
run leaves.
"""
