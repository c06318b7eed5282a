"""The gate of the mixture of experts: logits, the top k experts of a token, and a queue of tokens for each expert."""
