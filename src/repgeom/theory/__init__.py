"""What the answer should be, without training."""
