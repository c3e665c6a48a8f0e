"""Networks: Q-network, quantiser, VQ-VAE, world model. Torch only."""
