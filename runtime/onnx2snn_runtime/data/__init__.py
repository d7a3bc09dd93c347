"""Images and labels, batch by batch, as the inputs of a network take them."""
