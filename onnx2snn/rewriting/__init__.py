"""From the normal form to spikes: what each node becomes, and the model of one timestep."""
