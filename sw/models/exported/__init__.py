"""Networks from PyTorch modules: what torch.export sees of them becomes a graph of our operators."""
