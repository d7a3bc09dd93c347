"""What spikes and values cost: weights that they meet, operations, energy."""
