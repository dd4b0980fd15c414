"""The linear softmax model: logits that are never stored whole."""
