"""The gate of the mixture of experts: logits, the top k experts of each token, their weights, and token queues."""
